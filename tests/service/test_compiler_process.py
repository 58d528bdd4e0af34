"""The process that compiles: how it knows what it holds, when it ends, and what it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_model import write_model

from service import compiler_process
from service.compiler_process import DIFFERENT, Bound, exercise, held_bytes, pictures
from service.compiling import GO_ON
from service.registry import Engine, load, recipe
from service.settings import ModelSource


def order(folder: Path, model: Path, bound: int) -> list[str]:
    wanted = {**recipe("own", ModelSource(path=model), Engine()), "folder": str(folder), "bound_bytes": bound}
    return [sys.executable, "-m", "service.compiler_process", json.dumps(wanted)]


def test_it_ends_with_its_standard_input(tmp_path: Path) -> None:
    """So that none is left where the server was killed."""
    command = order(tmp_path, write_model(tmp_path / "own.onnx"), 1 << 40)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(120) == 1


def test_what_it_holds(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("1000 300 100 5 0 200 0\n")
    assert held_bytes(statm) == 200 * os.sysconf("SC_PAGE_SIZE")
    statm.write_text("nonsense")
    assert (held_bytes(statm), held_bytes(tmp_path / "gone")) == (0, 0)


def test_a_kernel_is_begun_while_there_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(compiler_process.os, "_exit", ended.append)
    monkeypatch.setattr(compiler_process, "held_bytes", lambda: 10)
    Bound(10).on_start(None)
    assert ended == []
    Bound(9).on_start(None)
    assert ended == [GO_ON]


def test_it_runs_what_frames_of_a_stream_may_need(tmp_path: Path) -> None:
    model = load("own", ModelSource(path=write_model(tmp_path / "own.onnx")))
    session = model.open_session()
    frames = list(pictures(*model.size, model.spec.channels))
    decisions = [session.push(frame, number / 10).decision for number, frame in enumerate(frames)]
    assert decisions[0] == "keyframe"
    assert "partial" in decisions[1:DIFFERENT]
    assert "reuse" in decisions[DIFFERENT:]
    exercise(model)


def test_pictures_of_any_size() -> None:
    for width, height, channels in ((8, 8, 1), (37, 50, 3)):
        assert {frame.shape for frame in pictures(width, height, channels)} == {(height, width, channels)}
