"""A server of its own process, to be loaded, looked at and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.soak.groups import ControlGroup

READY_S = 400.0
"""Where the kernels are not compiled yet, the first start takes minutes."""


class ServerProcess:
    """`afterimage serve` on 127.0.0.1, with settings given as in the environment; its log goes to a file.

    port : 0 takes a free one at the first start, and keeps it. group : that it runs in; None: this process's own.
    ready_s : that a start may take; None: `READY_S`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        port: int = 0,
        group: ControlGroup | None = None,
        ready_s: float | None = None,
    ) -> None:
        self._log = folder / "server.log"
        self._settings = {"state_folder": str(folder / "state"), **settings}
        self.port = port
        self.started_s = 0.0
        """That the last start took."""
        self.group = group
        self._ready_s = ready_s
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it and wait until it is ready; seconds that took. RuntimeError with the log's end if it never is."""
        begun = time.monotonic()
        given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self._settings.items()}
        environment = os.environ | {f"AFTERIMAGE_{name.upper()}": value for name, value in given.items()}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve", "--port", str(self.port)],
                env=environment, stdout=log, stderr=subprocess.PIPE, text=True,
                preexec_fn=None if self.group is None else self.group.join,
            )  # fmt: skip
        assert self._process.stderr is not None
        listening = threading.Event()
        threading.Thread(target=self._copy, args=(self._process.stderr, listening), daemon=True).start()
        limit_s = READY_S if self._ready_s is None else self._ready_s
        while not (listening.is_set() and self.status("/readyz") == 200):
            if self._process.poll() is not None or time.monotonic() - begun > limit_s:
                raise RuntimeError(f"the server is not ready: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.started_s = time.monotonic() - begun
        return self.started_s

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> float:
        """Ask it to end; seconds until it did."""
        begun = time.monotonic()
        self._end(signal.SIGTERM)
        return time.monotonic() - begun

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All it wrote so far."""
        return self._log.read_text()

    def memory_bytes(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise RuntimeError("the process does not say what it holds")

    def status(self, path: str) -> int:
        """The HTTP status of a GET; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def post(self, path: str) -> Any:
        """The JSON of a POST without a body."""
        with urllib.request.urlopen(urllib.request.Request(self.url + path, method="POST"), timeout=10) as response:
            return json.load(response)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            if self.running:
                self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError(f"the server did not end within 30 s of {number.name}") from None

    def _copy(self, lines: Any, listening: threading.Event) -> None:
        """Keep what it says, and find where it listens."""
        with lines, self._log.open("a") as log:
            for line in lines:
                log.write(line)
                log.flush()
                if "listening on" in line:
                    self.port = int(line.split("listening on", 1)[1].split()[0].rsplit(":", 1)[1])
                    listening.set()


class MemoryWatch:
    """Resident memory of a server, once a second. Use as a context."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.samples: list[tuple[float, int]] = []
        """Seconds since the start, and bytes."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def growth(self, after_s: float) -> float:
        """Share by which memory grew from a moment to the end, each taken as the median of a tenth of that time."""
        counted = [held for at, held in self.samples if at >= after_s]
        some = max(1, len(counted) // 10)
        return sorted(counted[-some:])[some // 2] / sorted(counted[:some])[some // 2] - 1

    def _watch(self) -> None:
        begun = time.monotonic()
        while not self._done.wait(1.0):
            self.samples.append((time.monotonic() - begun, self._server.memory_bytes()))
