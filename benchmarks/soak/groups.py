"""A control group of its own for a server: so much memory, no swap, so many cores. Of cgroup v1 and v2.

What a container engine does, without the engine: the kernel's own limits, and its own killer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
CONTROLLERS = ("memory", "cpu")


def unavailable(root: Path = ROOT) -> str | None:
    """Why no group can be made here; None if one can."""
    places = _places(root)
    if not places:
        return "the controllers of memory and of cores are not mounted"
    closed = [place for place in places if not os.access(place / "cgroup.procs", os.W_OK)]
    return f"{closed[0]} cannot be written: that takes root" if closed else None


def _places(root: Path) -> list[Path]:
    """Where groups are made: one folder of v2, or one for each controller of v1; none where they are not there."""
    offered = root / "cgroup.subtree_control"
    if offered.is_file():
        return [root] if set(CONTROLLERS) <= set(offered.read_text().split()) else []
    places = [root / name for name in CONTROLLERS]
    return places if all((place / "cgroup.procs").is_file() for place in places) else []


@dataclass
class ControlGroup:
    """Made on entry, removed at the end with what still runs in it. cores : a quota, in parts of one."""

    memory_bytes: int
    cores: float
    root: Path = ROOT
    _folders: list[Path] = field(default_factory=list)

    def __enter__(self) -> Self:
        places, name = _places(self.root), f"afterimage-{os.getpid()}-{time.monotonic_ns()}"
        try:
            for place in places:
                (place / name).mkdir()
                self._folders.append(place / name)
            for file, value in self._limits():
                self._find(file).write_text(value)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def join(self) -> None:
        """Move the calling process in: for a child, before it becomes the server."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def peak_bytes(self) -> int:
        """The most that was used at once, file caches included."""
        return self._number("memory.max_usage_in_bytes", "memory.peak")

    @property
    def used_bytes(self) -> int:
        """What is used now, file caches included."""
        return self._number("memory.usage_in_bytes", "memory.current")

    @property
    def own_bytes(self) -> int:
        """What is used now and is no file's."""
        found = self._statistics("memory.stat")
        return found.get("total_rss", found.get("anon", 0))

    @property
    def kills(self) -> int:
        """Processes that the kernel has ended for want of memory."""
        found = self._statistics("memory.oom_control") or self._statistics("memory.events")
        return found.get("oom_kill", 0)

    @property
    def at_limit(self) -> int:
        """Times that memory was at its limit, and the kernel had to drop file caches first."""
        counts = [self._folders[0] / name for name in ("memory.failcnt", "memory.memsw.failcnt")]
        if counts[0].is_file():
            return sum(int(count.read_text()) for count in counts if count.is_file())
        return self._statistics("memory.events").get("max", 0)

    def _limits(self) -> list[tuple[str, str]]:
        most, quota = str(self.memory_bytes), str(round(self.cores * PERIOD_US))
        if len(self._folders) == 1:
            return [("memory.max", most), ("memory.swap.max", "0"), ("cpu.max", f"{quota} {PERIOD_US}")]
        limits = [("memory.limit_in_bytes", most)]
        if (self._folders[0] / "memory.memsw.limit_in_bytes").is_file():  # memory and swap together: no swap
            limits.append(("memory.memsw.limit_in_bytes", most))
        return [*limits, ("cpu.cfs_period_us", str(PERIOD_US)), ("cpu.cfs_quota_us", quota)]

    def _find(self, file: str) -> Path:
        return next(folder / file for folder in self._folders if (folder / file).is_file())

    def _number(self, *names: str) -> int:
        return next(int((self._folders[0] / name).read_text()) for name in names if (self._folders[0] / name).is_file())

    def _statistics(self, name: str) -> dict[str, int]:
        try:
            lines = (self._folders[0] / name).read_text().splitlines()
        except OSError:
            return {}
        return {key: int(value) for key, _, value in (line.partition(" ") for line in lines)}

    def _remove(self) -> None:
        for folder in self._folders:
            for _ in range(50):
                for process in (folder / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(process), signal.SIGKILL)
                try:
                    folder.rmdir()
                    break
                except OSError:  # the last process is not quite gone
                    time.sleep(0.1)
        self._folders.clear()
