"""What a real scrape of a server holds, whose machine tells of its energy."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from service_fakes import FakeEngine, make_registry, make_settings, running_server

from service.energy import Meter

NAME = re.compile(r"\bafterimage_[a-z0-9_]+")


def fake_package(root: Path) -> Meter:
    """A meter of a machine with one package, that is made in `root`."""
    folder = root / "class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    for name, value in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "1000000")):
        (folder / name).write_text(value)
    return Meter(root)


def scraped_families(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Kinds of all metrics by name, as the text's TYPE lines give them."""
    monkeypatch.setattr("service.state.Meter", lambda: fake_package(root))
    with running_server(make_registry(FakeEngine().model()), make_settings()) as server:
        text = httpx.get(f"{server.url}/metrics").text
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def series_of(families: dict[str, str]) -> set[str]:
    """The names that samples of these metrics have: what an expression may ask for."""
    plain = {name for name, kind in families.items() if kind != "histogram"}
    parts = {f"{name}_{part}" for name, kind in families.items() if kind == "histogram" for part in PARTS}
    return plain | parts


PARTS = ("bucket", "sum", "count")
