"""The README's Python runs as printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
from service_fakes import FakeEngine, make_registry, make_settings, running_server

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_there_are_two_blocks() -> None:
    assert len(BLOCKS) == 2
    assert "Session(plan)" in BLOCKS[0]
    assert "StreamClient" in BLOCKS[1]


def test_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("keyframe: 100% of the work")
    assert lines[2].startswith(("partial", "reuse"))


def test_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(2):
        cv2.imwrite(str(tmp_path / f"photos/{n}.jpg"), np.full((96, 128, 3), 50 * n, np.uint8))
    monkeypatch.chdir(tmp_path)
    with running_server(make_registry(FakeEngine().model()), make_settings()) as server:
        exec(compile(BLOCKS[1].replace("http://127.0.0.1:8000", server.url), "README.md", "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
