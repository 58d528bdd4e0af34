"""Limits of memory as the kernel tells them: on a machine, in a control group of either version, in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.machine_memory import available_bytes, limit_bytes, memory_limit

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {"proc/meminfo": f"MemTotal:  {8 << 20} kB\nMemFree: 1 kB\nMemAvailable:  {6 << 20} kB\nHugePages_Total: 0\n"}


def test_a_machine_without_groups(tmp_path: Path) -> None:
    root = write(tmp_path, MACHINE)
    assert (limit_bytes(root), available_bytes(root)) == (8 << 30, 6 << 30)


def test_nothing_is_known_elsewhere(tmp_path: Path) -> None:
    assert (limit_bytes(tmp_path), available_bytes(tmp_path)) == (None, None)


def test_version_2_takes_the_tightest_group_above(tmp_path: Path) -> None:
    files = {
        **MACHINE,
        "proc/self/cgroup": "0::/system.slice/afterimage.service\n",
        "sys/fs/cgroup/system.slice/memory.max": f"{900 * MIB}\n",
        "sys/fs/cgroup/system.slice/memory.current": f"{300 * MIB}\n",
        "sys/fs/cgroup/system.slice/afterimage.service/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/afterimage.service/memory.current": f"{200 * MIB}\n",
        "sys/fs/cgroup/system.slice/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
    }
    root = write(tmp_path, files)
    assert (limit_bytes(root), available_bytes(root)) == (900 * MIB, 700 * MIB)


@pytest.mark.parametrize("path", ["/", "/kubepods/pod1/abc"])
def test_version_2_in_a_container(tmp_path: Path, path: str) -> None:
    """The container's own group is mounted as the root, whatever the host calls it."""
    files = {
        **MACHINE,
        "proc/self/cgroup": f"0::{path}\n",
        "sys/fs/cgroup/memory.max": str(512 * MIB),
        "sys/fs/cgroup/memory.current": str(600 * MIB),
    }
    root = write(tmp_path, files)
    assert (limit_bytes(root), available_bytes(root)) == (512 * MIB, 0)


@pytest.mark.parametrize("limit", [256 * MIB, 9223372036854771712])
def test_version_1(tmp_path: Path, limit: int) -> None:
    files = {
        **MACHINE,
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,cpuacct:/\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": str(limit),
        "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": str(64 * MIB),
        "sys/fs/cgroup/memory/docker/abc/memory.stat": f"cache 5\ntotal_inactive_file {32 * MIB}\n",
    }
    root = write(tmp_path, files)
    expected = (limit, limit - 32 * MIB) if limit < 1 << 60 else (8 << 30, 6 << 30)
    assert (limit_bytes(root), available_bytes(root)) == expected


def test_garbage_is_no_limit(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: lots\n\x00\n",
        "proc/self/cgroup": "nonsense\n0::/../..\n",
        "sys/fs/cgroup/memory.max": "-1",
    }
    assert limit_bytes(write(tmp_path, files)) is None


def test_of_this_machine() -> None:
    limit, left = limit_bytes(), available_bytes()
    if limit is not None and left is not None:
        assert 0 < left <= limit


def test_what_slows_a_group_down_is_a_limit_too(tmp_path: Path) -> None:
    files = {
        **MACHINE,
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": str(512 * MIB),
        "sys/fs/cgroup/memory.high": str(400 * MIB),
        "sys/fs/cgroup/memory.current": str(100 * MIB),
        "sys/fs/cgroup/memory.swap.max": str(9000 * MIB),
    }
    root = write(tmp_path, files)
    assert str(memory_limit(root)) == "400 MiB of memory (memory.high of the control group /)"
    assert available_bytes(root) == 300 * MIB, "swap is not memory"


def test_version_1_tells_of_groups_that_cannot_be_seen(tmp_path: Path) -> None:
    files = {
        **MACHINE,
        "proc/self/cgroup": "4:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(512 * MIB),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(64 * MIB),
        "sys/fs/cgroup/memory/memory.stat": f"hierarchical_memory_limit {300 * MIB}\n",
    }
    assert limit_bytes(write(tmp_path, files)) == 300 * MIB


def test_files_that_nobody_has_mapped_can_be_dropped(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": str(512 * MIB),
        "sys/fs/cgroup/memory.current": str(400 * MIB),
        "sys/fs/cgroup/memory.stat": (
            f"inactive_file {50 * MIB}\nactive_file {100 * MIB}\nfile_mapped {80 * MIB}\nanon {200 * MIB}\n"
        ),
    }
    assert available_bytes(write(tmp_path, files)) == 182 * MIB
