"""Kernels that are not compiled yet are compiled in a process of its own, which ends: the server never holds the
compiler's memory, and a box too small for all of it at once compiles in several goes.

A compiler keeps half a gigabyte of what it has made; read from the folder of compiled kernels, the same kernels take a
fifth of that. Each kernel is in that folder as soon as it is done, so a process that has taken as much as it may ends
itself, and the next one goes on (`service.compiler_process`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba.core import event

import kernels
from service.machine_memory import available_bytes

log = logging.getLogger("afterimage.compiling")

Recipe = Mapping[str, Any]
"""What `service.registry.recipe` says of a model, as JSON: its name, source and engine."""
COMPILING = "numba:compile"
MOST_BYTES = 1 << 30
"""Of a compiling process: more than all kernels of a model take."""
LEAST_BYTES = 192 << 20
"""Below which it could not even read what has been compiled, and compile one more."""
SPARE_BYTES = 48 << 20
"""Left free beside it."""
GOES = 64
GO_ON = 75
"""Exit status of a process that has taken what it may, and is to be followed by another."""
TAIL_CHARS = 2000


class KernelsMissing(RuntimeError):
    """A kernel would have to be compiled, where that is not to be done."""


class CompilerFailed(RuntimeError):
    """The process that compiles has ended with an error; the message has its last line."""


class TooLittleMemory(RuntimeError):
    """There is not the memory to compile; the message has the figures."""


class _Guard(event.Listener):  # type: ignore[misc]  # numba has no types
    """Stops the compiler in threads that say so, before it begins."""

    def __init__(self) -> None:
        self.threads = threading.local()
        event.register(COMPILING, self)

    def on_start(self, event: Any) -> None:
        if getattr(self.threads, "closed", False):
            raise KernelsMissing(event.data["dispatcher"].py_func.__name__)

    def on_end(self, event: Any) -> None:
        """Nothing to do."""


_guard = _Guard()
_turn = threading.Lock()


@contextmanager
def compiled_only() -> Iterator[None]:
    """KernelsMissing in the place of a compilation, in this thread."""
    _guard.threads.closed = True
    try:
        yield
    finally:
        _guard.threads.closed = False


def run_compiled(recipe: Recipe | None, work: Callable[[], None]) -> None:
    """Do what needs a model's kernels; where some are not compiled yet, have that done first, and do it again.

    recipe : None compiles here; so does what goes wrong there. Not for the event loop: that takes a minute or more.
    Raises TooLittleMemory, or what `work` raises.
    """
    if recipe is None:
        return work()
    try:
        with compiled_only():
            return work()
    except KernelsMissing:
        try:
            with _turn:  # what another model has had compiled meanwhile is not compiled again
                compile_apart(recipe)
        except CompilerFailed as error:
            log.warning("%s; going on in this process", error)
    return work()


def compile_apart(recipe: Recipe) -> None:
    """Compile all kernels of a model, in as many processes one after the other as the memory asks for.

    Raises CompilerFailed or TooLittleMemory.
    """
    begun, goes = time.monotonic(), 0
    log.info("compiling kernels for this CPU: model %s needs some that are not there yet", recipe["name"])
    while True:
        bound, made = allowed_bytes(), _count()
        goes += 1
        status, said = _go(recipe, bound)
        if status == 0:
            break
        _judge(status, said, bound, progress=_count() > made, goes=goes)
        log.info("%d kernels are compiled; going on in a new process", _count())
    log.info("compiled the kernels of %s in %.0f s, %d processes", recipe["name"], time.monotonic() - begun, goes)


def allowed_bytes(left: int | None = None) -> int:
    """What a compiling process may take now. Raises TooLittleMemory.

    left : None looks what there is.
    """
    free = available_bytes() if left is None else left
    if free is None:
        return MOST_BYTES
    if free < LEAST_BYTES + SPARE_BYTES:
        needed = LEAST_BYTES + SPARE_BYTES
        raise TooLittleMemory(
            f"expected {needed >> 20} MiB of memory to compile kernels for this CPU, {free >> 20} MiB are left"
        )
    return min(MOST_BYTES, free - SPARE_BYTES)


def _go(recipe: Recipe, bound: int) -> tuple[int, str]:
    """The exit status of one process, and the last it said."""
    order = {**recipe, "folder": str(kernels.FOLDER), "bound_bytes": bound}
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "service.compiler_process", json.dumps(order)]
    # It ends when its standard input does: with this process, however that ends.
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=nowhere, stderr=pipe, env=environment) as process:
            assert process.stderr is not None
            said = process.stderr.read().decode(errors="replace")[-TAIL_CHARS:]
            return process.wait(), said
    except OSError as error:
        raise CompilerFailed(f"no process can be started to compile kernels: {error.strerror}") from error


def _judge(status: int, said: str, bound: int, *, progress: bool, goes: int) -> None:
    """Raise where another go would not help."""
    if status == -signal.SIGKILL:  # the kernel's, where memory is short
        raise TooLittleMemory(f"expected the kernels to be compiled in {bound >> 20} MiB; the kernel ended the process")
    if status != GO_ON:
        words = said.strip().splitlines()
        raise CompilerFailed(f"kernels cannot be compiled: {words[-1] if words else f'exit status {status}'}")
    if not progress or goes >= GOES:
        raise TooLittleMemory(f"expected to compile a kernel in {bound >> 20} MiB of memory, it takes more")


def _count() -> int:
    """Compiled kernels in the folder."""
    return sum(1 for _ in Path(kernels.FOLDER).rglob("*.nbc"))
