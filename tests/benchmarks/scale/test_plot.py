"""The plot is drawn from a report, the same to the byte for the same report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from measured_box import make_box

from benchmarks.scale import plot
from benchmarks.scale.cluster import Scenario, summary


def test_a_day_is_drawn(tmp_path: Path) -> None:
    scenario = Scenario.of(make_box(), "people", None, streams=60, boxes=4, spare=1)
    days = []
    for title, boxes in (("as planned", 4), ("fewer", 3)):
        day = scenario.day(boxes, length_s=1200.0).run()
        days.append(summary(day, boxes, title) | {"main": boxes == 4} | day.as_dict())
    report = {"plan": scenario.found.as_dict(), "days": days}
    for name in ("one.svg", "two.svg"):
        plot.draw(report, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert b"<svg" in drawn
