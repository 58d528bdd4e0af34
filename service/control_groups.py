"""The control groups that this process runs in, of cgroup v2 and v1: where their files lie, and how those are read.

Linux only; elsewhere there are none. In a container the path that the kernel tells may be the host's: then only the
mount itself, which is the container's own group, is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOUNT = "sys/fs/cgroup"


@dataclass(frozen=True)
class Group:
    """One group. version : 1 or 2. folder : of its files. path : as the kernel calls it, for people."""

    version: int
    folder: Path
    path: str

    def number(self, name: str) -> int | None:
        """The whole number in one of its files; None where there is none."""
        found = text(self.folder / name).strip()
        return int(found) if found.isascii() and found.isdigit() else None

    def statistics(self, name: str) -> dict[str, int]:
        """The numbers of a file of lines such as `anon 4096`."""
        return _pairs(text(self.folder / name))


def groups(root: Path, controller: str) -> Iterator[Group]:
    """The groups of this process that a controller may limit, and all above them, innermost first.

    root : of the file system, for tests. controller : such as "memory".
    """
    for line in text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            yield from _chain(2, root / MOUNT, path)
            yield from _chain(2, root / MOUNT / "unified", path)  # beside groups of version 1
        elif controller in names.split(","):
            together = root / MOUNT / names  # such as cpu,cpuacct
            yield from _chain(1, together if together.is_dir() else root / MOUNT / controller, path)


def text(file: Path) -> str:
    """What a small file says; empty where it cannot be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _chain(version: int, base: Path, path: str) -> Iterator[Group]:
    place = PurePosixPath("/" + path.strip("/"))
    levels = (place, *place.parents)
    if ".." in place.parts:  # a group outside of what is mounted
        levels = (PurePosixPath("/"),)
    for level in levels:
        folder = base / str(level).lstrip("/")
        if folder.is_dir():
            yield Group(version, folder, str(level))


def _pairs(lines: str) -> dict[str, int]:
    found = {}
    for line in lines.splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isascii() and value.strip().isdigit():
            found[key] = int(value)
    return found
