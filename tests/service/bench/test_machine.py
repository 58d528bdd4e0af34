"""What a measurement says of its machine, and the quiet it waits for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.bench import machine


class Clock:
    """A clock that only sleeping moves on; `busy` says how much of each sleep another thread ran."""

    def __init__(self, busy):
        self.busy, self.wall, self.used, self.sleeps = busy, 0.0, 0.0, 0

    def sleep(self, seconds):
        self.wall += seconds
        self.used += seconds * self.busy(self.sleeps)
        self.sleeps += 1

    def monotonic(self):
        return self.wall

    perf_counter = monotonic

    def process_time(self):
        return self.used


def test_a_cpu_is_named_with_its_family_and_model(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Some CPU\n\nmodel name\t: Other\n")
    assert machine.cpu_name(file) == "Some CPU (family 6, model 143)"


def test_a_cpu_without_a_file_still_has_a_name(tmp_path):
    assert machine.cpu_name(tmp_path / "missing")


def test_versions_are_those_installed_and_none_for_what_is_not(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    assert machine.machine()["versions"] == {"numpy": np.__version__, "no-such-package": None}


def stat(user, idle):
    return f"cpu  {user} 0 0 {idle} 7 0 0 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


def test_what_other_programs_use_by_hand(tmp_path, monkeypatch):
    """200 ticks of 10 ms more are 2 s of CPU, half a second of them our own, in 3 s: half a core for the others."""
    file, clock = tmp_path / "stat", Clock(lambda number: 0.5 / 3)
    monkeypatch.setattr(machine, "time", clock)
    monkeypatch.setattr(machine.os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    file.write_text(stat(1000, 500))
    others = machine.Bystanders(file)
    clock.sleep(3.0)
    file.write_text(stat(1200, 600))
    assert others.cores() == 0.5


def test_other_programs_are_not_known_everywhere(tmp_path):
    assert machine.Bystanders(tmp_path / "missing").cores() is None


def test_opencv_gets_as_many_threads_as_the_engines():
    before = cv2.getNumThreads()
    try:
        machine.use_threads(1)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_settling_outlasts_a_thread_that_runs(monkeypatch):
    clock = Clock(lambda number: 1.0 if number < 7 else 0.05)
    monkeypatch.setattr(machine, "time", clock)
    machine.settle()
    assert clock.sleeps == 8


def test_settling_gives_up_on_a_thread_that_never_ends(monkeypatch):
    clock = Clock(lambda number: 1.0)
    monkeypatch.setattr(machine, "time", clock)
    machine.settle()
    assert clock.wall == pytest.approx(machine._PATIENCE_S, abs=2 * machine._LOOK_S)
