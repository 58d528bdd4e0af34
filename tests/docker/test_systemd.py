"""The units: taken by systemd, confined as far as a compiler at run time lets them be, and in step with the service."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from compose_file import compose
from first_start import SLOW_START_S
from programs import program

from service import configuration
from service.settings import Settings

FOLDER = Path(__file__).parents[2] / "docker/systemd"
UNIT = FOLDER / "afterimage.service"
MOST_EXPOSED = 2.0
"""Of 10, as systemd counts; a unit without any confinement has 9.6."""


class Unit(configparser.RawConfigParser):
    """A unit's sections. A key that stands several times has its lines joined by newlines."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, dict_type=_Joined, comment_prefixes=("#", ";"), delimiters=("=",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string(path.read_text())


class _Joined(dict):
    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(value, list) and key in self and isinstance(self[key], list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def seconds(span: str) -> float:
    """Of "30s", "2min" or "45min"."""
    number, unit = re.fullmatch(r"(\d+)(s|min)", span).groups()
    return int(number) * {"s": 1, "min": 60}[unit]


def runnable(folder: Path, change: tuple[str, str] = ("", "")) -> Path:
    """The unit with a program that there is."""
    text = UNIT.read_text().replace(*change) if change[0] else UNIT.read_text()
    assert "ExecStart=/opt/afterimage/bin/afterimage serve" in text
    unit = folder / UNIT.name
    unit.write_text(text.replace("/opt/afterimage/bin/afterimage", sys.executable))
    return unit


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_systemd_takes_it_and_not_a_typo(tmp_path: Path) -> None:
    found = analyze("verify", runnable(tmp_path))
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
    found = analyze("verify", runnable(tmp_path, ("ProtectClock=", "ProtectClocks=")))
    assert "ProtectClocks" in found.stderr


def test_it_is_confined(tmp_path: Path) -> None:
    found = analyze("security", "--offline=true", f"--threshold={int(MOST_EXPOSED * 10)}", "--json=short", UNIT)
    assert found.returncode == 0, found.stdout
    exposed = {row["json_field"] for row in json.loads(found.stdout) if row["set"] is False}
    assert not {field for field in exposed if field.startswith("CapabilityBoundingSet")}
    assert exposed & {"MemoryDenyWriteExecute"}, "kernels are compiled while it runs"
    opened = analyze(
        "security", "--offline=true", "--threshold=20", runnable(tmp_path, ("CapabilityBoundingSet=\n", ""))
    )
    assert opened.returncode != 0, "and the threshold says so where that is taken back"


def test_where_memory_ends_the_server_stays() -> None:
    assert Unit(UNIT)["Service"]["OOMPolicy"] == "continue", "the compiler's or a camera's process is what goes"


def test_times_fit_the_service() -> None:
    service = Unit(UNIT)["Service"]
    assert service["Type"] == "notify"
    assert seconds(service["TimeoutStopSec"]) >= 2 * Settings().drain_s + 5
    assert seconds(service["TimeoutStartSec"]) >= SLOW_START_S, "kernels are compiled at the first start"
    assert seconds(service["WatchdogSec"]) > 2 * (Settings().drain_s + 10), "while it drains it says nothing"


def test_it_writes_only_its_own_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Unit(UNIT)["Service"]
    assert service["ProtectSystem"] == "strict"
    own = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache"}
    writable = [Path(place, service[key]) for key, place in own.items()]
    environment = dict(line.split("=", 1) for line in service["Environment"].splitlines())
    paths = [Path(value) for value in environment.values() if value.startswith("/")]
    assert len(paths) == 3
    assert all(any(path.is_relative_to(folder) for folder in writable) for path in paths)
    for name in environment:
        if name.startswith("AFTERIMAGE_"):
            known = name in configuration.OTHER_VARIABLES
            assert known or name.removeprefix("AFTERIMAGE_").lower() in Settings.model_fields, name


def test_the_container_is_as_compose_has_it() -> None:
    """Podman's own check, Quadlet, is not in every Podman: what can be compared is."""
    quadlet, service = Unit(FOLDER / "afterimage.container"), compose({})["services"]["afterimage"]
    container = quadlet["Container"]
    assert container["PublishPort"] == service["ports"][0]
    assert container["Exec"].split() == service["command"]
    assert container["Tmpfs"] in service["tmpfs"]
    assert container["DropCapability"].upper() == service["cap_drop"][0]
    assert (container["ReadOnly"], container["NoNewPrivileges"], container["Notify"]) == ("true", "true", "true")
    arguments = dict(argument.lstrip("-").split("=") for argument in container["PodmanArgs"].split())
    assert arguments["memory"] == service["mem_limit"]
    assert arguments["memory-swap"] == service["memswap_limit"]
    assert arguments["pids-limit"] == service["pids_limit"]
    assert f"{arguments['stop-timeout']}s" == service["stop_grace_period"]
    assert seconds(quadlet["Service"]["TimeoutStopSec"]) > float(arguments["stop-timeout"])
