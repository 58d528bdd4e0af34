"""The process that compiles: how it knows what it holds, when it ends, and what it runs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest
from numba.core import event
from own_model import write_model
from service_fakes import FakeEngine, FakeSession

from service import compiler_process
from service.compiler_process import Bound, exercise, held_bytes
from service.compiling import COMPILING, GO_ON, NO_MEMORY, PASS
from service.exercise import DIFFERENT, pictures
from service.registry import Engine, NoMemory, load, recipe
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
    begins = SimpleNamespace(kind=COMPILING)
    Bound(10).on_start(begins)
    assert ended == []
    Bound(9).on_start(begins)
    assert ended == [GO_ON]


def test_so_is_a_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(compiler_process.os, "_exit", ended.append)
    monkeypatch.setattr(compiler_process, "held_bytes", lambda: 10)
    with event.install_listener(PASS, Bound(9)):
        numba.cfunc(numba.types.int64(numba.types.int64))(lambda x: x + 1)
    assert ended == [GO_ON], "once, before anything is made"


def test_no_memory_for_the_model_has_its_own_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_left(name: str, *_: object) -> None:
        raise NoMemory(f"{name}: expected 9 MiB")

    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(compiler_process, "load", none_left)
    monkeypatch.setattr(compiler_process.event, "register", lambda *_: None)
    monkeypatch.setattr(compiler_process, "bound_pools", lambda: None)
    monkeypatch.setattr(compiler_process.Path, "write_text", lambda *_: 0)
    monkeypatch.setattr(compiler_process.os, "_exit", end)
    wanted = {**recipe("own", ModelSource(path=Path("own.onnx")), Engine()), "bound_bytes": 1 << 40}
    with pytest.raises(SystemExit) as ended:
        compiler_process.main(wanted)
    assert ended.value.code == NO_MEMORY
    assert capsys.readouterr().err == "expected 9 MiB\n"


def test_streams_are_run_one_after_the_other() -> None:
    """Two at once where that is what is run."""
    engine = FakeEngine(together=2)
    alive, most = weakref.WeakSet[FakeSession](), 0

    def open_one() -> FakeSession:
        nonlocal most
        session = FakeSession(engine)
        alive.add(session)
        most = max(most, len(alive))
        return session

    engine.open = open_one
    exercise(engine.model())
    assert most == 2
    assert len(engine.batches) == DIFFERENT


def test_it_runs_what_frames_of_a_stream_may_need(tmp_path: Path) -> None:
    model = load("own", ModelSource(path=write_model(tmp_path / "own.onnx")))
    session = model.open_session()
    frames = list(pictures(*model.size, model.spec.channels))
    decisions = [session.push(frame, number / 10).decision for number, frame in enumerate(frames)]
    assert decisions[0] == "keyframe"
    assert "partial" in decisions[1:DIFFERENT]
    assert "reuse" in decisions[DIFFERENT:]
    exercise(model)


def test_pictures_move_and_are_exposed_otherwise() -> None:
    """As their kernels are made for that alone; the own model above is too small for a move to pay."""
    model = load("people", ModelSource(path=Path("people")))
    session = model.open_session()
    frames = itertools.islice(pictures(*model.size, model.spec.channels), DIFFERENT)
    reasons = [session.push(frame, number / 10).reason for number, frame in enumerate(frames)]
    assert any("picture moved by (32, 32) px" in reason for reason in reasons)
    assert any("exposure brought back" in reason for reason in reasons)


def test_pictures_of_any_size() -> None:
    for width, height, channels in ((8, 8, 1), (37, 50, 3)):
        assert {frame.shape for frame in pictures(width, height, channels)} == {(height, width, channels)}
