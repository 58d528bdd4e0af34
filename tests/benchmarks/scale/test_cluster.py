"""A scenario asks as much of its boxes as the plan allows, and a day is summed up in one row."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from measured_box import make_box

from benchmarks.scale.__main__ import simulate
from benchmarks.scale.cluster import Scenario, summary
from service.capacity.plan import plan


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario.of(make_box(), "people", None, streams=120, boxes=6, spare=1)


def test_a_little_faster_would_take_more_boxes(scenario: Scenario) -> None:
    assert scenario.found.boxes == 6
    demand = scenario.found.demand
    faster = replace(demand, fps=demand.fps + 0.01)
    assert plan(scenario.box, "people", None, faster, scenario.found.terms).boxes > 6


def test_a_day_in_a_row(scenario: Scenario) -> None:
    day = scenario.day(6, length_s=300.0, quiet=True).run()
    found = summary(day, 6, "a title")
    assert (found["title"], found["boxes"], found["recovery"]) == ("a title", 6, {})
    assert 0 < found["used_p50"] <= found["used_p99"] <= 1
    assert found["most_streams"] <= scenario.found.full


def test_without_a_bound_admission_alone_decides(scenario: Scenario) -> None:
    assert scenario.day(6, bounded=False).places.most is None
    assert scenario.day(6).places.most == scenario.found.full


def test_six_clusters_are_lived_through(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Scenario.day
    monkeypatch.setattr(
        Scenario, "day", lambda self, boxes, bounded: full(self, boxes, bounded=bounded, length_s=120.0)
    )
    report = simulate(scenario.box, scenario)
    assert [row["boxes"] for row in report["days"]] == [6, 5, 7, 6, 5, 5]
    assert [row["main"] for row in report["days"]] == [True, False, False, False, False, False]
    assert report["plan"]["boxes"] == 6
