"""How much memory this process may use, and how much is left: of the machine, and of the control groups it runs in.

Linux only (`/proc/meminfo`, cgroup v2 and v1); elsewhere nothing is known. Reads a few small files, each time anew.
Swap is not counted: what lies there is not lost, and no frame should wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.control_groups import Group, groups, text

UNLIMITED = 1 << 60
"""A group's limit of this much or more is none: v1 says so with the largest number of pages."""
_LIMITS = {2: ("memory.max", "memory.high"), 1: ("memory.limit_in_bytes",)}
"""What a group may use. Above `memory.high` it is not killed, but slowed down until it is hardly any use."""
_USED = {2: "memory.current", 1: "memory.usage_in_bytes"}
_PREFIX = {2: "", 1: "total_"}
_MAPPED = {2: "file_mapped", 1: "total_mapped_file"}
_ABOVE = "hierarchical_memory_limit"
"""Of v1's statistics: the tightest limit of all groups above, where those cannot be seen."""


@dataclass(frozen=True)
class MemoryLimit:
    """nbytes : what may be used. source : who says so, for people."""

    nbytes: int
    source: str

    def __str__(self) -> str:
        return f"{self.nbytes >> 20} MiB of memory ({self.source})"


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The least of the machine's memory and the limits of the groups; None where neither can be read.

    root : of the file system, for tests.
    """
    total = _meminfo(root).get("MemTotal")
    known = [] if total is None else [MemoryLimit(total, "of the machine")]
    known += [limit for limit, _ in _limited(root)]
    return min(known, key=lambda limit: limit.nbytes, default=None)


def limit_bytes(root: Path = Path("/")) -> int | None:
    """The bytes of `memory_limit`; None where nothing can be read."""
    limit = memory_limit(root)
    return None if limit is None else limit.nbytes


def available_bytes(root: Path = Path("/")) -> int | None:
    """What can still be had before the machine or a group is short of it; None where nothing can be read."""
    left = [max(0, limit.nbytes - used) for limit, used in _limited(root)]
    free = _meminfo(root).get("MemAvailable")
    return min([*left, *([] if free is None else [free])], default=None)


def _meminfo(root: Path) -> dict[str, int]:
    """`/proc/meminfo`, bytes by name."""
    found = {}
    for line in text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()
        if number and number[0].isdigit():
            found[name] = int(number[0]) * 1024
    return found


def _limited(root: Path) -> list[tuple[MemoryLimit, int]]:
    """Limits of this process's group and all above it, and what is used of each: without what the kernel can drop."""
    found = []
    for group in groups(root, "memory"):
        now = group.number(_USED[group.version])
        if now is None:
            continue
        stated = [(group.number(name), name) for name in _LIMITS[group.version]]
        statistics = group.statistics("memory.stat")
        stated.append((statistics.get(_ABOVE), f"{_ABOVE} in memory.stat"))
        limits = [MemoryLimit(most, name) for most, name in stated if most is not None and most < UNLIMITED]
        if limits:
            tightest = min(limits, key=lambda limit: limit.nbytes)  # of equal ones the first
            limit = MemoryLimit(tightest.nbytes, f"{tightest.source} of the control group {group.path}")
            found.append((limit, max(0, now - _reclaimable(group, statistics))))
    return found


def _reclaimable(group: Group, statistics: dict[str, int]) -> int:
    """Bytes of file caches that nobody has used for long, or that nobody has mapped: code that runs is neither."""
    prefix = _PREFIX[group.version]
    inactive = statistics.get(f"{prefix}inactive_file", 0)
    cached = inactive + statistics.get(f"{prefix}active_file", 0)
    return max(inactive, cached - statistics.get(_MAPPED[group.version], 0))
