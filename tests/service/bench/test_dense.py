"""Rows of whole frames: keys, ratios by hand, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from service.bench import dense as subject
from service.bench import engines
from service.bench.dense import dense, example, ratios
from service.bench.engines import EngineError


def test_a_report_has_every_side_and_its_mean(opened):
    said = []
    report = dense([("tiny", opened)], rounds=2, progress=said.append)
    (row,) = report["models"]
    assert said == ["tiny"]
    assert (row["model"], row["size"], row["threads"], row["precision"]) == ("tiny", "96x64", 1, "float32")
    for name in ("ours", "ours_keyframe", "ours_tensor", "onnxruntime", "openvino", "openvino_tensor"):
        assert 0 < row[f"{name}_min_ms"] <= row[f"{name}_p10_ms"] <= row[f"{name}_ms"] <= row[f"{name}_p90_ms"]
    assert row["max_relative_error"] < 1e-4
    assert row["onnxruntime_reason"] is None
    assert row["best"] in engines.OTHERS
    assert row["ratio_best"] == row[f"{row['best']}_ms"] / row["ours_ms"]
    assert report["geometric_mean"] == pytest.approx(row["ratio_best"])
    assert "nodes" not in row
    assert report["machine"]["cores"] >= 1


def test_ratios_by_hand():
    row = {
        "ours_ms": 10.0, "ours_tensor_ms": 8.0, "ours_min_ms": 9.0,
        "onnxruntime_ms": 12.0, "onnxruntime_tensor_ms": 11.0, "onnxruntime_min_ms": 8.1,
        "openvino_ms": 15.0, "openvino_tensor_ms": 4.0, "openvino_min_ms": 12.0,
    }  # fmt: skip
    assert ratios(row, ("onnxruntime", "openvino")) == {
        "onnxruntime_ratio": 1.2,
        "openvino_ratio": 1.5,
        "best": "onnxruntime",
        "ratio_best": 1.2,
        "ratio_best_tensor": 0.5,
        "ratio_best_min": pytest.approx(0.9),
    }


def test_without_another_engine_there_is_no_ratio(opened):
    report = dense([("tiny", opened)], rounds=1, against=())
    assert report["geometric_mean"] is None
    assert report["models"][0]["ratio_best"] is None
    assert report["models"][0]["max_relative_error"] is None


def test_an_engine_that_cannot_gets_null_and_a_reason(opened, monkeypatch):
    def refuse(name, *rest):
        raise EngineError(f"{name} is tired")

    monkeypatch.setattr(engines, "open_other", refuse)
    (row,) = dense([("tiny", opened)], rounds=1)["models"]
    assert row["openvino_ms"] is None
    assert row["openvino_tensor_ms"] is None
    assert row["openvino_reason"] == "openvino is tired"
    assert row["openvino_ratio"] is None
    assert row["ours_ms"] > 0


def test_our_own_missing_precision_is_a_reason_too(opened, monkeypatch):
    def refuse(*parts):
        raise EngineError("not yet")

    monkeypatch.setattr(subject, "compile_own", refuse)
    (row,) = dense([("tiny", opened)], rounds=1, against=("onnxruntime",))["models"]
    assert row["ours_ms"] is None
    assert row["ours_reason"] == "not yet"
    assert row["onnxruntime_ms"] > 0
    assert row["ratio_best"] is None


def test_nodes_where_they_are_asked_for(opened):
    (row,) = dense([("tiny", opened)], rounds=1, against=(), nodes=True)["models"]
    assert len(row["nodes"]) == len(opened.compile().steps)


def test_more_threads_wait_for_quiet_before_each_turn(opened, monkeypatch):
    waits = []
    monkeypatch.setattr(subject, "settle", lambda: waits.append(1))
    dense([("tiny", opened)], rounds=2, threads=2, against=("onnxruntime",))
    assert len(waits) == 2 * 5  # ours, ours_keyframe, onnxruntime, and two from the tensor


def test_the_example_is_a_frame_as_the_network_gets_it(opened):
    image = example(opened)
    assert image.shape == (64, 96, 3)
    assert image.dtype == np.uint8
    assert image.std() > 5
