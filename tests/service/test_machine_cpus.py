"""Cores as the kernel tells them: of the machine, by affinity, and by quotas of control groups of either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import machine_cpus
from service.machine_cpus import MOST_THREADS, Cores, cores, default_threads

V2 = "0::/kubepods/pod1\n"
V1 = "4:cpu,cpuacct:/docker/abc\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 cores, all of them allowed."""
    allow(monkeypatch, 64)


def allow(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    monkeypatch.setattr(machine_cpus.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine_cpus.os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)


def write(root: Path, lines: str, files: dict[str, str]) -> Path:
    for name, words in {"proc/self/cgroup": lines, **{f"sys/fs/cgroup/{name}": w for name, w in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(words)
    return root


def test_a_machine_without_groups(tmp_path: Path) -> None:
    assert cores(tmp_path) == Cores(64.0, "of the machine")


def test_a_cpuset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 3)
    found = cores(tmp_path)
    assert (found.number, found.threads) == (3.0, 3)
    assert str(found) == "3 cores (of the machine's 64, by cpuset or affinity)"


@pytest.mark.parametrize(
    ("words", "number", "threads"),
    [
        ("100000 100000", 1.0, 1), ("50000 100000", 0.5, 1), ("150000 100000", 1.5, 1), ("400000 100000", 4.0, 4),
        ("2500 10000", 0.25, 1), ("6400000 50000", 64.0, 64),
        ("max 100000", 64.0, 64), ("0 100000", 64.0, 64), ("100000 0", 64.0, 64), ("100000", 64.0, 64),
        ("", 64.0, 64), ("lots of it", 64.0, 64), ("\x00", 64.0, 64),
    ],
)  # fmt: skip
def test_quotas_of_version_2(tmp_path: Path, words: str, number: float, threads: int) -> None:
    found = cores(write(tmp_path, V2, {"kubepods/pod1/cpu.max": words}))
    assert (found.number, found.threads) == (number, threads)


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    files = {"cpu.max": "max 100000", "kubepods/cpu.max": "150000 100000", "kubepods/pod1/cpu.max": "800000 100000"}
    found = cores(write(tmp_path, V2, files))
    assert str(found) == "1.5 cores (cpu.max 150000 of 100000 us of the control group /kubepods)"


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("place", ["", "/docker", "/docker/abc"])
def test_quotas_of_version_1(tmp_path: Path, mount: str, place: str) -> None:
    """In a container only the mount is there, whatever the host calls its group."""
    files = {f"{mount}{place}/cpu.cfs_quota_us": "50000\n", f"{mount}{place}/cpu.cfs_period_us": "100000\n"}
    found = cores(write(tmp_path, V1, files))
    assert (found.number, found.threads) == (0.5, 1)
    assert "cpu.cfs_quota_us 50000 of 100000 us" in found.source


@pytest.mark.parametrize(("quota", "period"), [("-1", "100000"), ("100000", ""), ("", "100000"), ("x", "y")])
def test_no_quota_of_version_1(tmp_path: Path, quota: str, period: str) -> None:
    files = {"cpu/docker/abc/cpu.cfs_quota_us": quota, "cpu/docker/abc/cpu.cfs_period_us": period}
    assert cores(write(tmp_path, V1, files)).number == 64.0


def test_a_cpuset_and_a_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"kubepods/pod1/cpu.max": "300000 100000"}
    root = write(tmp_path, V2, files)
    allow(monkeypatch, 2)
    assert cores(root).number == 2.0
    allow(monkeypatch, 4)
    assert cores(root).number == 3.0


def test_defaults_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, threads in ((0.5, 1), (1.5, 1), (6.0, 6), (64.0, MOST_THREADS)):
        monkeypatch.setattr(machine_cpus, "cores", lambda number=number: Cores(number, "a test"))
        assert default_threads() == threads


def test_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = cores()
    assert found.number > 0
    assert found.threads >= 1
    assert found.source
