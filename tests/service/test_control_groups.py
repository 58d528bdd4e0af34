"""Where a process's control groups lie, of either version, and what is in their files."""

from __future__ import annotations

from pathlib import Path

from service.control_groups import groups, text

V1 = "9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"


def make(root: Path, *folders: str) -> None:
    for folder in folders:
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True)


def tell(root: Path, lines: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)


def test_all_groups_above_count(tmp_path: Path) -> None:
    make(tmp_path, "a.slice/b.service")
    tell(tmp_path, "0::/a.slice/b.service\n")
    found = list(groups(tmp_path, "memory"))
    assert [(group.version, group.path) for group in found] == [(2, "/a.slice/b.service"), (2, "/a.slice"), (2, "/")]


def test_a_path_of_the_host_leaves_the_mount(tmp_path: Path) -> None:
    make(tmp_path, "memory", "cpu,cpuacct/docker/abc")
    tell(tmp_path, V1)
    assert [(group.version, group.path) for group in groups(tmp_path, "memory")] == [(1, "/"), (2, "/")]
    assert [group.path for group in groups(tmp_path, "cpu") if group.version == 1] == ["/docker/abc", "/docker", "/"]


def test_a_group_outside_of_the_mount_is_not_looked_for(tmp_path: Path) -> None:
    make(tmp_path, "")
    (tmp_path / "sys/memory.max").write_text("1")
    tell(tmp_path, "0::/../..\n")
    assert [(group.path, group.number("memory.max")) for group in groups(tmp_path, "memory")] == [("/", None)]


def test_what_files_say(tmp_path: Path) -> None:
    make(tmp_path, "")
    tell(tmp_path, "0::/\nnonsense\n")
    (group,) = groups(tmp_path, "memory")
    for name, words in {
        "whole": "12\n",
        "none": "max\n",
        "below": "-1\n",
        "odd": "\u0661",
        "list": "a 1\nb x\nc\n",
    }.items():
        (group.folder / name).write_text(words, encoding="utf-8")
    assert [group.number(name) for name in ("whole", "none", "below", "odd", "gone")] == [12, None, None, None, None]
    assert group.statistics("list") == {"a": 1}
    assert text(tmp_path / "gone") == ""


def test_nothing_is_known_elsewhere(tmp_path: Path) -> None:
    assert list(groups(tmp_path, "cpu")) == []
