"""What is told of the limits, and what of settings beyond them."""

from __future__ import annotations

import logging

import pytest
from service_fakes import make_settings

from service import limits
from service.limits import LEAST_BYTES, REST_BYTES, Watch, default_cache_bytes, describe, excesses, too_small
from service.machine_cpus import Cores
from service.machine_memory import MemoryLimit

MIB = 1 << 20


def found(monkeypatch: pytest.MonkeyPatch, number: float, memory: int | None) -> None:
    monkeypatch.setattr(limits, "cores", lambda: Cores(number, "a quota"))
    limit = None if memory is None else MemoryLimit(memory, "a group")
    monkeypatch.setattr(limits, "memory_limit", lambda: limit)


@pytest.mark.parametrize(
    ("limit", "cache"),
    [(24 << 30, 12 << 30), (1 << 30, 512 * MIB), (512 * MIB, 256 * MIB), (400 * MIB, 144 * MIB), (256 * MIB, 16 * MIB)],
)
def test_caches_leave_room_for_the_server(limit: int, cache: int) -> None:
    assert default_cache_bytes(limit) == cache


def test_a_box_that_is_too_small_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, 1.0, LEAST_BYTES - 1)
    assert too_small() == "expected at least 256 MiB of memory for a server, got 255 MiB of memory (a group)"
    for memory in (LEAST_BYTES, None):
        found(monkeypatch, 1.0, memory)
        assert too_small() is None


def test_settings_beyond_the_limits_are_told_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, 1.5, 512 * MIB)
    cores = limits.cores()
    assert excesses(make_settings(workers=1, threads=1), cores) == []
    told = excesses(make_settings(workers=4, threads=1, cache_bytes=400 * MIB), cores)
    assert told == [
        "workers: 4 are set, there is time for 1.5 cores (a quota); frames will wait for each other",
        f"cache_bytes: 400 MiB are set, which leaves less than {REST_BYTES >> 20} MiB of 512 MiB of memory (a group)"
        " for all else",
    ]
    assert excesses(make_settings(workers=1, threads=1), Cores(0.5, "a quota")) == [], "there is no fewer than one"


def test_what_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, 0.5, 512 * MIB)
    monkeypatch.setattr(limits, "available_bytes", lambda: 7)
    assert describe() == {
        "cores": 0.5, "cores_source": "a quota", "memory_bytes": 512 * MIB, "memory_source": "a group",
        "memory_left_bytes": 7,
    }  # fmt: skip
    found(monkeypatch, 0.5, None)
    assert describe()["memory_bytes"] is None


def test_cores_that_change_are_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "afterimage.limits")
    found(monkeypatch, 2.0, 512 * MIB)
    watch = Watch(make_settings(workers=2, threads=2))
    watch.begin()
    watch.look()
    assert caplog.messages == ["limits: 2 cores (a quota), 512 MiB of memory (a group)"]
    found(monkeypatch, 1.0, 512 * MIB)
    watch.look()
    watch.look()
    assert caplog.messages[1:] == [
        "limits: now 1 core (a quota); this server keeps 2 workers and 2 threads until it is started again"
    ]
