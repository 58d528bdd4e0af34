"""A small day with much trouble: every stream on one living box at most, none lost, moves only where they must be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from measured_box import make_box

from benchmarks.scale.cluster import Scenario, summary
from benchmarks.scale.day import STEP_S, Day
from benchmarks.scale.places import Places
from benchmarks.scale.trouble import Trouble

HOURS = 3600.0
LENGTH_S = 1.5 * HOURS
TROUBLE = Trouble(
    mtbf_s=4 * HOURS, rack=2, rack_at_s=1.0 * HOURS, rack_dark_s=300.0, update_at_s=0.3 * HOURS, group=1, update_s=5.0,
    churn_s=2 * HOURS, churn_away_s=60.0,
)  # fmt: skip


class Watched(Places):
    """Counts and checks moves."""

    def place(self, stream: int, now: float) -> tuple[int, bool]:
        before = self._counts.copy()
        box, passed = super().place(stream, now)
        if box >= 0:
            assert self.open[box]
            assert before[box] < self.most
        return box, passed

    def leave(self, stream: int) -> None:
        super().leave(stream)
        assert self.at[stream] == -1


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario.of(make_box(), "people", None, streams=200, boxes=10, spare=2, seed=5, trouble=TROUBLE)


@pytest.fixture(scope="module")
def day(scenario: Scenario) -> Day:
    made = scenario.day(10, length_s=LENGTH_S, check=True)
    made.places.__class__ = Watched
    return made.run()


def test_the_scenario_fills_the_boxes_that_it_is_given(scenario: Scenario) -> None:
    assert scenario.found.boxes == 10
    assert scenario.found.full * 8 >= 200


def test_nobody_is_lost(day: Day) -> None:
    wants = day._on
    assert (day.places.at[~wants] == -1).all()
    away = np.flatnonzero(wants & (day.places.at < 0))
    waiting = {stream for each in day.recoveries for stream in each.waiting}
    assert set(away.tolist()) <= waiting, "whoever has no box is on its way to one"


def test_boxes_failed_came_back_and_were_updated(day: Day) -> None:
    happened = {each.what for each in day.recoveries}
    assert happened == {"failure", "rack", "update"}
    assert all(each.recovery_s is not None for each in day.recoveries if each.at_s < LENGTH_S - 600)
    assert all(each.recovery_s >= STEP_S for each in day.recoveries if each.recovery_s is not None and each.streams)


def test_moves_are_those_that_had_to_be(day: Day) -> None:
    totals = day.totals
    assert 0 < totals.moves_away + totals.moves_home <= totals.ideal_moves
    assert totals.most_streams <= day.places.most


def test_time_and_frames_add_up(day: Day) -> None:
    totals = day.totals
    assert totals.lost + totals.unserved < 0.05 * totals.frames
    assert totals.frames > 0
    assert len(day.minutes.connected) == LENGTH_S / 60
    assert max(day.minutes.used_p99) <= 1
    assert min(day.minutes.alive) < 10


def test_the_same_seed_gives_the_same_day(scenario: Scenario, day: Day) -> None:
    again = scenario.day(10, length_s=LENGTH_S).run()
    assert again.as_dict() == day.as_dict()


def test_too_few_boxes_are_noticed(scenario: Scenario) -> None:
    found = summary(scenario.day(5, length_s=600.0, quiet=True).run(), 5, "half")
    assert found["refused"] > 0
    assert found["unserved"] > 0.05


def test_a_quiet_day_of_enough_boxes_refuses_nobody(scenario: Scenario) -> None:
    found = summary(scenario.day(10, length_s=600.0, quiet=True).run(), 10, "enough")
    assert found["refused"] == 0
    assert found["unserved"] == 0
    assert found["recovery"] == {}
