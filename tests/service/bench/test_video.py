"""Clips: figures by hand, and a real run on a small network."""

from __future__ import annotations

import pytest

from service.bench import engines
from service.bench import video as subject
from service.bench.engines import EngineError
from service.bench.variants import BUDGET, DENSE, EXACT, Series
from service.bench.video import conversion, figures, video
from service.evaluate import EvaluationError
from service.verification import verify


def series(frame_ms, fraction, decode=1.0, boxes=0.0):
    return Series([decode] * len(frame_ms), [ms - boxes for ms in frame_ms], [boxes] * len(frame_ms), fraction)


def test_figures_by_hand_leave_the_first_frame_out():
    found = figures(
        {
            BUDGET: series([99.0, 2.0, 4.0], [1.0, 0.1, 0.3]),
            EXACT: series([99.0, 6.0, 6.0], [1.0, 0.5, 0.5]),
            DENSE: series([99.0, 12.0, 12.0], [1.0, 1.0, 1.0]),
            "onnxruntime": series([99.0, 9.0, 15.0], [1.0, 1.0, 1.0]),
            "openvino": series([1.0, 20.0, 22.0], [1.0, 1.0, 1.0]),
        },
        ["onnxruntime", "openvino"],
    )
    assert found["best"] == "onnxruntime"
    assert found["ratio"] == 4.0
    assert found["ratio_jpeg"] == 13 / 4
    assert found["ratio_exact"] == 2.0
    assert found["ratio_dense"] == 1.0
    assert found["ms"][BUDGET]["frame"] == {"mean": 3.0, "p50": 3.0, "p99": 3.98}
    assert found["ms"]["openvino"]["jpeg"]["mean"] == 22.0
    both = found["conversion_efficiency"]
    assert both["all"] == {
        "frames": 2, "limit": 1.0, "speed_up": 4.0, "reduction": pytest.approx(5.0),
        "efficiency": pytest.approx(0.8), "efficiency_outputs": pytest.approx(0.8),
    }  # fmt: skip
    assert both["sparse"]["frames"] == 1
    assert both["sparse"]["efficiency"] == pytest.approx(0.6)  # 6 times as fast at a tenth of the work


def test_conversion_to_outputs_leaves_the_boxes_out():
    budget = series([99.0, 2.0], [1.0, 0.1], boxes=1.0)
    dense = series([99.0, 11.0], [1.0, 1.0], boxes=1.0)
    found = conversion(budget, dense, 1.0)
    assert found["efficiency"] == pytest.approx(0.55)
    assert found["efficiency_outputs"] == pytest.approx(1.0)


@pytest.mark.parametrize("fraction", [[1.0], [1.0, 0.5], [1.0, 0.0]], ids=["one frame", "none so sparse", "no work"])
def test_no_conversion_where_there_is_nothing_to_convert(fraction):
    one = series([5.0] * len(fraction), fraction)
    assert conversion(one, one, 0.1)["efficiency"] is None


def test_no_ratio_without_another_engine():
    one = series([9.0, 1.0], [1.0, 0.5])
    found = figures({BUDGET: one, EXACT: one, DENSE: one}, [])
    assert [found[key] for key in ("best", "ratio", "ratio_jpeg", "ratio_exact")] == [None] * 4


def test_a_clip_gives_what_verify_gives_and_its_times(opened, clip):
    done = []
    report = video(opened, clip, progress=done.append)
    expected = verify(opened, clip)
    for key in ("frames", "compute_fraction", "agreement", "noise_floor", "max_abs_error", "strong_boxes"):
        assert report[key] == expected[key], key
    assert report["bit_identical"] is True
    assert done == [1, 2, 3, 4, 5]
    assert set(report["series"]) == {BUDGET, EXACT, DENSE, "onnxruntime", "openvino"}
    assert all(len(one["frame_ms"]) == 5 for one in report["series"].values())
    assert report["series"][BUDGET]["compute_fraction"][0] == 1
    assert report["series"][BUDGET]["compute_fraction"][2] == 0
    assert 0 < report["exact"]["compute_fraction"]["mean"] <= 1
    assert report["ratio"] > 0
    assert report["ratio_jpeg"] > 0
    assert report["engine_errors"]["openvino"] < 1e-4
    assert report["onnxruntime_error"] < 1e-4
    assert report["reasons"] == {"onnxruntime": None, "openvino": None}


def test_every_variant_sees_every_frame_once_and_the_order_moves_on(opened, clip, monkeypatch):
    ran = []
    original = subject.Variant.run

    def run(self, jpeg, image):
        ran.append(self.name)
        return original(self, jpeg, image)

    monkeypatch.setattr(subject.Variant, "run", run)
    video(opened, clip[:2], against=("onnxruntime",))
    names = [BUDGET, EXACT, DENSE, "onnxruntime"]
    assert ran == names + names[1:] + names[:1]


def test_an_engine_that_cannot_is_left_out_with_its_reason(opened, clip, monkeypatch):
    def refuse(name, *rest):
        raise EngineError("not today")

    monkeypatch.setattr(engines, "open_other", refuse)
    report = video(opened, clip[:2], against=("openvino",))
    assert report["reasons"] == {"openvino": "not today"}
    assert report["ratio"] is None
    assert "openvino" not in report["ms"]


def test_more_threads_wait_for_quiet(opened, clip, monkeypatch):
    waits = []
    monkeypatch.setattr(subject, "settle", lambda: waits.append(1))
    report = video(opened, clip[:2], threads=2, against=())
    assert len(waits) == 2 * 3
    assert report["bit_identical"] is True


def test_a_clip_without_frames(opened):
    with pytest.raises(EvaluationError, match="at least one frame"):
        video(opened, [], against=())
