"""The table that the benchmark of compressions writes."""

from __future__ import annotations

import pytest

from benchmarks.compression import BEGIN, CASES, END, PAGE, drawn, rewritten, table
from service.compression.report import Report
from tests.service.compression.small_models import frames

REPORT = Report("m", "tucker2", "macs 0.5", True, (64, 32), (2, 2), (), 200, 100, 1000, 700, 0.02, {"iou50": 1.0})
TIMES = {"dense_before_ms": 2.0, "dense_after_ms": 1.5, "cached_before_ms": 0.5, "cached_after_ms": 0.25}


def test_every_row_has_as_many_cells_as_the_head() -> None:
    about = {"model": "m", "clip": "c.mp4", "method": "svd", "correct": True}
    found = table([
        {**about, "macs": 0.5, "report": REPORT.as_json(), "times": TIMES},
        {**about, "budget": 0.05, "report": REPORT.as_json(), "times": None},
        {**about, "macs": 0.5, "reason": "no way"},
    ]).splitlines()  # fmt: skip
    assert len({line.count("|") for line in found}) == 1
    assert "50.0% | 70.0% | 2.00% | iou50 1.000 | 2.00 to 1.50 | 0.50 to 0.25 |" in found[2]
    assert "budget 0.05" in found[3]
    assert "no way" in found[4]


def test_only_what_lies_between_the_markers_is_replaced() -> None:
    assert rewritten(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="expected a page"):
        rewritten("a", "new")
    rewritten(PAGE.read_text(encoding="utf-8"), "new")


def test_text_is_drawn_where_a_case_asks_for_it() -> None:
    frame = frames(1, (640, 480))[0]
    assert (drawn(frame, 0) != frame).any()
    assert any(case.written for case in CASES)
