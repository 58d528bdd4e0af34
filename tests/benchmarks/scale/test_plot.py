"""The plot is drawn from a report, without the date that would change it each time."""

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
    plot.draw(report, tmp_path / "day.svg")
    drawn = (tmp_path / "day.svg").read_text(encoding="utf-8")
    assert "<!-- as planned -->" in drawn, "text is drawn as shapes, with a comment each"
    assert "<!-- fewer -->" in drawn
    assert "<dc:date>" not in drawn
