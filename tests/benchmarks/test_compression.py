"""The table that the benchmark of compressions writes."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest

from benchmarks import compression
from benchmarks.compression import BEGIN, CASES, END, PAGE, Case, Options, drawn, measured, rewritten, table
from service.compression.compress import Compressed
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


def test_what_was_made_is_taken_again_each_for_its_own_target(tmp_path, monkeypatch) -> None:
    asked: list[object] = []

    def compress(path: object, spread: object, **options: object) -> Compressed:
        asked.append(options)
        return Compressed(b"%d" % len(asked), REPORT)

    monkeypatch.setattr(compression, "compress", compress)
    monkeypatch.setattr(compression, "open_source", lambda *args, **kwargs: contextlib.nullcontext(()))
    monkeypatch.setattr(compression, "opened_as", lambda opened, data: data)
    monkeypatch.setattr(compression, "time_both", lambda before, after, row: None)
    runs = (("tucker2", True, {"budget": 0.05}), ("tucker2", True, {"macs": 0.5}), ("tucker2", False, {"macs": 0.05}))
    case, options = Case("people", "c.mp4", 0, 1, runs=runs), Options(tmp_path, tmp_path, 2, 0, tmp_path)
    first = measured(case, options)
    assert len(asked) == 3
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.onnx")) == [b"1", b"2", b"3"]
    assert json.dumps(measured(case, options)) == json.dumps(first)
    assert len(asked) == 3
    measured(case, dataclasses.replace(options, keep=None))
    assert len(asked) == 6
