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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba.core import event

import kernels
from service.catalogue import FOLDER_VARIABLE, default_folder
from service.machine_memory import available_bytes
from service.warming import compiled

log = logging.getLogger("afterimage.compiling")

Recipe = Mapping[str, Any]
"""What `service.registry.recipe` says of a model, as JSON: its name, source and engine."""
COMPILING = "numba:compile"
PASS = "numba:run_pass"
"""Of the compiler over a function; all that numba says where it compiles a C callback."""
LEAST_BYTES = 192 << 20
"""Below which it could not even read what has been compiled, and compile one more."""
SPARE_BYTES = 48 << 20
"""Left free beside it."""
GOES = 64
GO_ON, NO_MEMORY = 75, 76
"""Exit statuses of a process that has taken what it may, and is to be followed by another; and of one in which there
was no memory for the model."""
KILLED = -getattr(signal, "SIGKILL", 9)  # Windows has none
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
        event.register(PASS, self)

    def on_start(self, event: Any) -> None:
        if getattr(self.threads, "closed", False):
            data = event.data
            raise KernelsMissing(data["qualname"] if event.kind == PASS else data["dispatcher"].py_func.__name__)

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
    goes = 0
    log.info("compiling kernels for this CPU: model %s needs some that are not there yet", recipe["name"])
    while True:
        bound, made = allowed_bytes(), compiled(kernels.FOLDER)
        goes += 1
        status, said = _go(recipe, bound)
        if status == 0:
            return
        _judge(status, said, bound, progress=compiled(kernels.FOLDER) > made, goes=goes)


def allowed_bytes(left: int | None = None) -> int:
    """What a compiling process may take now: the model and its streams, and what the compiler keeps, about half a
    gigabyte in all for the built-in one. Raises TooLittleMemory.

    left : None looks what there is.
    """
    free = available_bytes() if left is None else left
    if free is None:
        return sys.maxsize
    if free < LEAST_BYTES + SPARE_BYTES:
        needed = LEAST_BYTES + SPARE_BYTES
        raise TooLittleMemory(
            f"expected {needed >> 20} MiB of memory to compile kernels for this CPU, {free >> 20} MiB are left"
        )
    return free - SPARE_BYTES


def _go(recipe: Recipe, bound: int) -> tuple[int, str]:
    """The exit status of one process, and the last it said."""
    order = {**recipe, "folder": str(kernels.FOLDER), "bound_bytes": bound}
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", **_folders()}
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


def _folders() -> dict[str, str]:
    """Variables with which the process looks for no folder of its own: it would leave one behind where the usual one
    cannot be written. Models lie where they do for this process."""
    if kernels.FOLDER.is_relative_to(kernels.cache_folder()):
        return {}
    return {"AFTERIMAGE_CACHE_DIR": str(kernels.FOLDER), FOLDER_VARIABLE: str(default_folder())}


def _judge(status: int, said: str, bound: int, *, progress: bool, goes: int) -> None:
    """Raise where another go would not help."""
    words = said.strip().splitlines()
    if status == NO_MEMORY:
        raise TooLittleMemory(words[-1] if words else "there is no memory for the model")
    if status == KILLED:  # the kernel's, where memory is short
        raise TooLittleMemory(f"expected the kernels to be compiled in {bound >> 20} MiB; the kernel ended the process")
    if status != GO_ON:
        raise CompilerFailed(f"kernels cannot be compiled: {words[-1] if words else f'exit status {status}'}")
    if not progress or goes >= GOES:
        raise TooLittleMemory(f"expected to compile a kernel in {bound >> 20} MiB of memory, it takes more")
