"""The Python of the client's README runs as printed, under the product's name for the package."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from service_fakes import RunningServer

README = (Path(__file__).parents[2] / "clients/python/README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: RunningServer, capsys: pytest.CaptureFixture[str]):
    """A function that runs one block beside two photos, and gives its lines."""
    (tmp_path / "photos").mkdir()
    for n in range(2):
        cv2.imwrite(str(tmp_path / f"photos/{n}.jpg"), np.full((96, 128, 3), 50 + 50 * n, np.uint8))
    monkeypatch.chdir(tmp_path)

    def run(number: int) -> list[str]:
        text = BLOCKS[number].replace("afterimage_client", "clients").replace("http://127.0.0.1:8000", server.url)
        exec(compile(text, "README.md", "exec"), {"__name__": "readme"})
        return capsys.readouterr().out.splitlines()

    return run


def test_there_are_four_blocks() -> None:
    assert len(BLOCKS) == 4


def test_results(run) -> None:
    assert run(0) == ["1 grey5 75% (0.0, 0.0, 64.0, 96.0)", "2 grey10 75% (0.0, 0.0, 64.0, 96.0)"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_with_asyncio(run) -> None:
    lines = run(1)
    assert lines[0].startswith("1 100% of the work ")
    assert lines[-1].split()[1] == "0%"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_everything_that_happens(run) -> None:
    assert run(2) == ["1 ['grey5']", "2 ['grey5']", "3 ['grey5']"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_with_supervision(run) -> None:
    pytest.importorskip("supervision")
    assert run(3) == ["1 ['grey5'] (96, 128, 3)"]
