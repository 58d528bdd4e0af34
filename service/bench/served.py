"""A whole server, started once and sent frames of one stream: what lies outside of its workers. Linux only.

It listens on loopback, in a folder of its own, and is ended when the figures are there.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from clients.python import Policy, StreamClient, StreamOptions
from service.bench.errors import BenchError

FRAMES = 600
_WARM = 50
_READY_S = 900.0
"""Where no kernel is compiled yet, the first start takes minutes."""
_END_S = 30.0


class ServedError(BenchError):
    """The server did not start, or the system does not tell what it used; the message says which."""


@dataclass(frozen=True)
class Served:
    """start_s : from the start of the process until it was ready. memory_bytes : resident then, with no streams.
    outside_ms : of a core for each frame, in the thread that serves sockets."""

    start_s: float
    memory_bytes: int
    outside_ms: float


def measure(model: Path, size: str, jpegs: Sequence[bytes], frames: int = FRAMES) -> Served:
    """Start a server with a model's file and send it frames as fast as it takes them.

    Raises ServedError.
    """
    with tempfile.TemporaryDirectory() as folder, server(model, size, Path(folder)) as running:
        memory_bytes = _memory_bytes(running.pid)
        options = StreamOptions(policy=Policy.ALL)
        with StreamClient(running.url, "bench", options) as client:
            for _ in client.results(jpegs[n % len(jpegs)] for n in range(_WARM)):
                pass
            begun_ns = _loop_ns(running.pid)
            done = sum(1 for _ in client.results(jpegs[n % len(jpegs)] for n in range(frames)))
            used_ns = _loop_ns(running.pid) - begun_ns
    if not done:
        raise ServedError("the server gave no results")
    return Served(running.start_s, memory_bytes, used_ns / 1e6 / done)


def start_s(model: Path, size: str, kernels: Path | None = None) -> float:
    """Seconds until a server is ready. kernels : folder to keep compiled kernels in; an empty one: a first start."""
    with tempfile.TemporaryDirectory() as folder, server(model, size, Path(folder), kernels) as running:
        return running.start_s


@dataclass(frozen=True)
class Running:
    """A server that is ready."""

    url: str
    pid: int
    start_s: float


@contextlib.contextmanager
def server(model: Path, size: str, folder: Path, kernels: Path | None = None) -> Iterator[Running]:
    """`afterimage serve` on a free port of 127.0.0.1, ready, with nothing but defaults. Raises ServedError."""
    environment = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    if kernels is not None:
        environment["AFTERIMAGE_CACHE_DIR"] = str(kernels)
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", str(model.resolve()), "--size", size, "--port", "0"],
        env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    log = _Log(process.stderr)
    try:
        url = log.address(process)
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() - begun > _READY_S:
                raise ServedError(f"the server is not ready: {log.end}")
            time.sleep(0.02)
        yield Running(url, process.pid, time.monotonic() - begun)
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.thread.join()
        process.stderr.close()


def _is_setting(name: str) -> bool:
    """Whether a variable would change what is measured."""
    return name.startswith("AFTERIMAGE_") and name not in ("AFTERIMAGE_CACHE_DIR", "AFTERIMAGE_MODELS_DIR")


class _Log:
    """What a server writes, read as it comes so that it never waits for us; the last lines are kept."""

    def __init__(self, lines: IO[str]) -> None:
        self._addresses: queue.Queue[str | None] = queue.Queue()
        self._last: list[str] = []
        self.thread = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self.thread.start()

    @property
    def end(self) -> str:
        """The last lines."""
        return " ".join(self._last)

    def address(self, process: subprocess.Popen[str]) -> str:
        """Where it listens. Raises ServedError if it ends before it does."""
        found = self._addresses.get()
        if found is None:
            process.wait()
            raise ServedError(f"the server ended: {self.end}")
        return found

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._last = [*self._last[-4:], line.strip()]
            if "listening on " in line:
                self._addresses.put(line.split("listening on ", 1)[1].split()[0])
        self._addresses.put(None)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _memory_bytes(pid: int) -> int:
    for line in _proc(f"{pid}/status").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise ServedError("the system does not tell what memory a process holds")


def _loop_ns(pid: int) -> int:
    """CPU time of a process's first thread, which runs the event loop, ns."""
    return int(_proc(f"{pid}/task/{pid}/schedstat").split()[0])


def _proc(path: str) -> str:
    try:
        return (Path("/proc") / path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ServedError(f"/proc/{path} cannot be read: {error.strerror}") from error
