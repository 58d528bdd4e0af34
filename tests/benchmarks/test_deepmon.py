"""DeepMon's rule beside ours on a tiny clip: a row for each rule, and how a table says it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from own_model import write_model

from benchmarks.deepmon import HEAD, cells, measured, section
from service.bench.deepmon import Rule


def test_a_row_for_each_rule(tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "tiny.onnx"))
    rows = measured(model, "scene", None, 0, 3, 1, [Rule(layers=0.5), Rule(layers=1.0, distance=0.5)])
    assert [row["label"] for row in rows] == [
        "whole frames", "ours, exact", "ours, within the budget",
        "DeepMon: first 50% of the convolutions, blocks of 32 px, distance 0.005",
        "DeepMon: first 100% of the convolutions, blocks of 32 px, distance 0.5",
    ]  # fmt: skip
    assert rows[0]["work"] == 1
    assert rows[-1]["work"] == 0  # no block of two frames that follow each other is so different
    assert all(len(cells(row)) == len(HEAD) for row in rows)
    text = section(rows, model, "scene", 3, 2)
    assert text.startswith("tiny on 3 frames of `scene`;")
    assert text.count("\n| ") == 7
