"""How many cores this process may use: those that it may run on, and the share of time that control groups give it.

A container's `--cpus 1` is a quota: the process still sees every core of its host, and would start a thread for each of
them. Linux only (cgroup v2 and v1); elsewhere the machine's cores count. Reads a few small files, each time anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from service.control_groups import Group, groups, text

MOST_THREADS = 8
"""Of a kind, by default: with more, memory bandwidth is what is short."""


@dataclass(frozen=True)
class Cores:
    """number : of cores, in parts of one where a quota says so. source : who says so, for people."""

    number: float
    source: str

    @property
    def threads(self) -> int:
        """Threads that can compute at once: rounded down, since what is left of a core goes to the event loop, to
        decoders and to what is sent; threads that share a quota are all stopped once it is used up."""
        return max(1, int(self.number))

    def __str__(self) -> str:
        return f"{self.number:g} {'core' if self.number == 1 else 'cores'} ({self.source})"


def cores(root: Path = Path("/")) -> Cores:
    """What the process may use now: the least of its cores and of the quotas of its groups and all above them.

    root : of the file system, for tests.
    """
    found = [_allowed()]
    found += [quota for group in groups(root, "cpu") if (quota := _quota(group)) is not None]
    return min(found, key=lambda cores: cores.number)


def default_threads() -> int:
    """Threads of a kind where no setting says how many: as many as there are cores, `MOST_THREADS` at most."""
    return min(MOST_THREADS, cores().threads)


def _allowed() -> Cores:
    """Cores by affinity: a cpuset, `taskset`, or all of the machine's."""
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    told = "of the machine" if allowed == machine else f"of the machine's {machine}, by cpuset or affinity"
    return Cores(float(allowed), told)


def _quota(group: Group) -> Cores | None:
    """What a group's quota is in cores; None without one, or where it cannot be understood."""
    if group.version == 2:
        name, words = "cpu.max", text(group.folder / "cpu.max").split()
    else:
        name = "cpu.cfs_quota_us"
        words = [text(group.folder / file).strip() for file in (name, "cpu.cfs_period_us")]
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):  # "max" and -1 are no limit
        return None
    quota, period = map(int, words)
    if not quota or not period:
        return None
    told = f"{name} {quota} of {period} us of the control group {group.path}"
    return Cores(float(Fraction(quota, period)), told)
