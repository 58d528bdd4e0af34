"""Who compiles kernels: never this process, where another can; and what is said where there is no memory for it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numba
import pytest
from own_model import write_model

from service import compiling
from service.compiling import (
    GO_ON,
    GOES,
    LEAST_BYTES,
    NO_MEMORY,
    SPARE_BYTES,
    CompilerFailed,
    KernelsMissing,
    TooLittleMemory,
    allowed_bytes,
    compile_apart,
    compiled_only,
    run_compiled,
)
from service.registry import Engine, recipe
from service.settings import ModelSource

RECIPE = {"name": "people"}
MIB = 1 << 20


class Goes:
    """Stands in for the processes: each has a status, and adds so many kernels to those that are compiled."""

    def __init__(self, *goes: tuple[int, int], said: str = "") -> None:
        self.left, self.made, self.said, self.bounds = list(goes), 0, said, list[int]()

    def go(self, recipe: object, bound: int) -> tuple[int, str]:
        assert recipe == RECIPE
        self.bounds.append(bound)
        status, more = self.left.pop(0)
        self.made += more
        return status, self.said


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch):
    def use(goes: Goes, left: int | None = 1 << 40) -> Goes:
        monkeypatch.setattr(compiling, "_go", goes.go)
        monkeypatch.setattr(compiling, "compiled", lambda folder: goes.made)
        monkeypatch.setattr(compiling, "available_bytes", lambda: left)
        return goes

    return use


def fresh_kernel():
    """A kernel that nobody has compiled."""

    @numba.njit
    def kernel(x):
        return x + 1

    return kernel


def test_a_thread_that_may_not_compile_says_what_it_misses() -> None:
    kernel, other = fresh_kernel(), fresh_kernel()
    with pytest.raises(KernelsMissing, match="kernel"), compiled_only():
        kernel(1)
    with compiled_only():
        thread = threading.Thread(target=other, args=(1,))  # others are not held up
        thread.start()
        thread.join()
        assert other(1) == 2, "it is compiled now"
    assert kernel(1) == 2, "and nothing is left behind"


def test_nor_a_callback() -> None:
    """A C callback is compiled at once, and without a word where all that it calls is there."""

    def callback(x):
        return x + 1

    signature = numba.types.int64(numba.types.int64)
    with pytest.raises(KernelsMissing, match="callback"), compiled_only():
        numba.cfunc(signature)(callback)
    assert numba.cfunc(signature)(callback).ctypes(1) == 2


def test_work_is_done_again_once_its_kernels_are_there(stand_in) -> None:
    goes, kernel, done = stand_in(Goes((0, 3))), fresh_kernel(), []

    def work() -> None:
        done.append(goes.made)
        kernel(1)

    run_compiled(RECIPE, work)
    assert done == [0, 3]
    run_compiled(RECIPE, work)
    assert len(done) == 3, "nothing was missing"
    run_compiled(None, lambda: fresh_kernel()(1))
    assert not goes.left


def test_a_process_that_has_taken_what_it_may_is_followed_by_another(
    stand_in, caplog: pytest.LogCaptureFixture
) -> None:
    goes = stand_in(Goes((GO_ON, 5), (GO_ON, 1), (0, 4)), left=300 * MIB)
    caplog.set_level(logging.INFO)
    compile_apart(RECIPE)
    words = "compiling kernels for this CPU: model people needs some that are not there yet"
    assert caplog.messages == [words], "how far it is others tell"
    assert goes.made == 10
    assert goes.bounds == [300 * MIB - SPARE_BYTES] * 3


def test_one_that_gets_nowhere_is_not(stand_in) -> None:
    stand_in(Goes((GO_ON, 5), (GO_ON, 0)), left=300 * MIB)
    with pytest.raises(TooLittleMemory, match="expected to compile a kernel in 252 MiB of memory, it takes more"):
        compile_apart(RECIPE)
    stand_in(Goes(*[(GO_ON, 1)] * (GOES + 1)))
    with pytest.raises(TooLittleMemory):
        compile_apart(RECIPE)


def test_one_without_the_memory_for_the_model_says_so(stand_in) -> None:
    stand_in(Goes((NO_MEMORY, 0), said="a warning\nexpected 9 MiB of memory for the model's file, 3 MiB are left\n"))
    with pytest.raises(TooLittleMemory, match=r"^expected 9 MiB of memory for the model's file, 3 MiB are left"):
        compile_apart(RECIPE)


def test_systems_without_that_signal(stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(compiling.signal, "SIGKILL")
    stand_in(Goes((3, 0)))
    with pytest.raises(CompilerFailed, match="exit status 3"):
        compile_apart(RECIPE)


def test_one_that_the_kernel_ends_tells_of_memory(stand_in) -> None:
    stand_in(Goes((-9, 1)), left=300 * MIB)
    with pytest.raises(TooLittleMemory, match="compiled in 252 MiB; the kernel ended the process"):
        compile_apart(RECIPE)


def test_one_that_fails_has_the_last_word(stand_in) -> None:
    stand_in(Goes((1, 0), said="Traceback\nValueError: no such op\n"))
    with pytest.raises(CompilerFailed, match="kernels cannot be compiled: ValueError: no such op"):
        compile_apart(RECIPE)
    stand_in(Goes((3, 0)))
    with pytest.raises(CompilerFailed, match="exit status 3"):
        compile_apart(RECIPE)


def test_what_goes_wrong_there_is_done_here(stand_in, caplog: pytest.LogCaptureFixture) -> None:
    """A machine that allows no further process, or a model that fails: this process finds out which, and says so."""
    stand_in(Goes((1, 0), said="OSError: no\n"))
    kernel = fresh_kernel()
    run_compiled(RECIPE, lambda: kernel(1))
    assert "kernels cannot be compiled: OSError: no; going on in this process" in caplog.messages
    stand_in(Goes((-9, 0)))
    with pytest.raises(TooLittleMemory):
        run_compiled(RECIPE, lambda: fresh_kernel()(1))


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.sys, "executable", "/nowhere/python")
    with pytest.raises(CompilerFailed, match="no process can be started to compile kernels: No such file"):
        compile_apart({**RECIPE, "source": {}, "engine": {}})


def test_what_a_process_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed_bytes(1 << 40) == (1 << 40) - SPARE_BYTES, "streams of a large plan take more than the compiler"
    assert allowed_bytes(LEAST_BYTES + SPARE_BYTES) == LEAST_BYTES
    with pytest.raises(TooLittleMemory, match="expected 240 MiB of memory to compile kernels for this CPU, 239 MiB"):
        allowed_bytes(LEAST_BYTES + SPARE_BYTES - 1)
    monkeypatch.setattr(compiling, "available_bytes", lambda: None)
    assert allowed_bytes() > 1 << 40


def test_a_real_process_ends_where_it_has_taken_what_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder the first kernel is one too many for a process of a byte. Where the usual folder cannot be
    written, it makes no other."""
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("AFTERIMAGE_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(compiling.kernels, "FOLDER", tmp_path / "kernels")
    model = write_model(tmp_path / "own.onnx")
    status, said = compiling._go(recipe("own", ModelSource(path=model), Engine()), 1)
    assert (status, said) == (GO_ON, "")
    assert list((tmp_path / "temporary").iterdir()) == []
