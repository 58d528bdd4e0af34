"""What the test of the image reads in files and logs; runs no container."""

from __future__ import annotations

import re
import stat
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def peak_bytes(groups: str, mount: Path = CGROUPS) -> int | None:
    """The most that a process's control group has held; None where the kernel does not say (version 2 before 5.19).

    groups : what /proc/PID/cgroup says
    """
    paths = {names: path.lstrip("/") for _, names, path in (line.split(":", 2) for line in groups.splitlines())}
    first = next((names for names in paths if "memory" in names.split(",")), None)
    if first is not None:
        file = mount / "memory" / paths[first] / "memory.max_usage_in_bytes"
    elif "" in paths:
        file = mount / paths[""] / "memory.peak"
    else:
        return None
    return int(file.read_text()) if file.exists() else None


def told_limit_mib(log: str) -> int | None:
    """The memory that a server says at its start its control group allows it; None where it says nothing of one."""
    words = " ".join(log.split())  # a line of it may be broken
    found = re.search(r"limits: \S+ cores? \([^)]*\), (\d+) MiB of memory \([^)]*control group", words)
    return None if found is None else int(found[1])


def size_of(folder: Path) -> int:
    """Bytes of all files, each once however many names it has."""
    found = {
        (info.st_dev, info.st_ino): info.st_size
        for path in folder.rglob("*")
        if stat.S_ISREG((info := path.lstat()).st_mode)
    }
    return sum(found.values())
