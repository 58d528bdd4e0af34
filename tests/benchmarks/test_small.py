"""A server within the kernel's own limits of a small box, for seconds; and what the groups for it need."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from benchmarks.soak import identity
from benchmarks.soak.groups import ControlGroup, unavailable
from benchmarks.soak.server import ServerProcess
from benchmarks.soak.small import CORES, MEMORY_BYTES, SETTINGS, Asked, _images

NO_GROUPS = unavailable()
needs_groups = pytest.mark.skipif(NO_GROUPS is not None, reason=f"no control group can be made: {NO_GROUPS}")


def settings(folder: Path) -> dict:
    return {**SETTINGS, "models": {"identity": {"path": str(identity.write_model(folder))}}}


@needs_groups
@pytest.mark.timeout(900)  # where the kernels are not compiled yet
def test_a_server_finds_its_limits_and_refuses_what_is_too_much(tmp_path: Path) -> None:
    with (
        ControlGroup(MEMORY_BYTES, CORES) as group,
        ServerProcess(tmp_path, settings(tmp_path), group=group, ready_s=800) as server,
    ):
        listed = httpx.get(f"{server.url}/v1/models", timeout=60).json()
        asked = asyncio.run(_images(server))
        assert (group.kills, server.running) == (0, True)
        assert 0 < group.own_bytes <= group.used_bytes <= group.peak_bytes <= MEMORY_BYTES
    assert listed["limits"]["cores"] == CORES
    assert listed["limits"]["memory_bytes"] == MEMORY_BYTES
    assert 0 < listed["limits"]["memory_left_bytes"] < MEMORY_BYTES
    assert asked.outcomes == {503: 4}
    assert asked.reasons[0].startswith("expected 367 MiB of memory for an image of 8000x8000 pixels")
    assert asked.told
    assert "limits: 1 core (" in " ".join(server.log.split())


@needs_groups
def test_a_box_that_is_too_small_is_told_so_at_the_start(tmp_path: Path) -> None:
    with ControlGroup(128 << 20, CORES) as group:
        server = ServerProcess(tmp_path, settings(tmp_path), group=group, ready_s=60)
        with pytest.raises(RuntimeError, match="expected at least 256 MiB of memory for a server, got 128 MiB"):
            server.start()
        assert group.kills == 0


def test_groups_are_not_made_where_they_cannot_be(tmp_path: Path) -> None:
    assert unavailable(tmp_path) == "the controllers of memory and of cores are not mounted"
    (tmp_path / "cgroup.subtree_control").write_text("cpu io\n")
    assert unavailable(tmp_path) == "the controllers of memory and of cores are not mounted"
    (tmp_path / "cgroup.subtree_control").write_text("cpu io memory\n")
    assert "cannot be written" in str(unavailable(tmp_path))
    (tmp_path / "cgroup.procs").touch()
    assert unavailable(tmp_path) is None


def test_a_refusal_without_figures_is_noticed() -> None:
    assert Asked(reasons=["expected 5 MiB"]).told
    assert not Asked(reasons=["expected 5 MiB", "no"]).told
