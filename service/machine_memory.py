"""How much memory this process may use, and how much is left: of the machine, and of the control groups it runs in.

Linux only (`/proc/meminfo`, cgroup v2 and v1); elsewhere nothing is known. Reads a few small files, each time anew.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60
"""A group's limit of this much or more is none: v1 says so with the largest number of pages."""


def limit_bytes(root: Path = Path("/")) -> int | None:
    """The least of the machine's memory and the limits of the groups; None where neither can be read.

    root : of the file system, for tests.
    """
    known = [_meminfo(root).get("MemTotal"), *[limit for limit, _ in _groups(root)]]
    return min((value for value in known if value is not None), default=None)


def available_bytes(root: Path = Path("/")) -> int | None:
    """What can still be had before the machine or a group is short of it; None where nothing can be read."""
    left = [max(0, limit - used) for limit, used in _groups(root)]
    free = _meminfo(root).get("MemAvailable")
    return min([*left, *([] if free is None else [free])], default=None)


def _meminfo(root: Path) -> dict[str, int]:
    """`/proc/meminfo`, bytes by name."""
    found = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()
        if number and number[0].isdigit():
            found[name] = int(number[0]) * 1024
    return found


def _groups(root: Path) -> list[tuple[int, int]]:
    """(limit, used) of this process's group and all above it that have a limit; file caches are not counted as used."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += _chain(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place, used = root / "sys/fs/cgroup/memory", "memory.usage_in_bytes"
            found += _chain(place, path, "memory.limit_in_bytes", used, "total_inactive_file")
    return found


def _chain(base: Path, path: str, limit: str, used: str, cached: str) -> list[tuple[int, int]]:
    """A group and those above it. In a container the path may be the host's: then only its end, the mount, is there."""
    place, found = PurePosixPath("/" + path.strip("/")), []
    for level in (place, *place.parents):
        folder = base / str(level).lstrip("/")
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None and most < UNLIMITED:
            found.append((most, max(0, now - _statistic(folder / "memory.stat", cached))))
    return found


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _statistic(file: Path, name: str) -> int:
    for line in _text(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
