"""The verify figures, on an engine small enough to know every number."""

import json

import numpy as np
import pytest

from service.evaluate import Decoder, EvaluationError, Incremental, evaluate, relative_error, summary
from service.families.yolox import YoloX
from service.model_spec import ModelSpec

SIZE = (32, 32)
DECODER = Decoder(YoloX(), ModelSpec(family="yolox", labels=("a",)), SIZE)


def head(score=0.9, shift=0.0):
    """A YOLOX head of one 16-pixel box in the middle."""
    values = np.zeros((1, 6, 4, 4), np.float32)
    values[0, :, 2, 2] = [shift, 0, np.log(2), np.log(2), score, 1]
    return {"head": values}


class Engine:
    """Replies with what it was given; counts the frames that came."""

    def __init__(self, replies, fractions=None):
        self.replies, self.fractions, self.seen = replies, fractions, []

    def dense(self, frame):
        self.seen.append(frame)
        return self.replies[(len(self.seen) - 1) % len(self.replies)]

    def step(self, frame):
        return Incremental(self.dense(frame), self.fractions[len(self.seen) - 1])


def clip(count, size=(64, 48)):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(count)]


def test_equal_engines_are_bit_identical():
    engine = Engine([head()] * 4, [1.0, 0.1, 0.2, 0.6])
    report = evaluate(clip(4), engine.step, Engine([head()]).dense, DECODER, reference=lambda frame: head())
    assert report == {
        "frames": 4,
        "compute_fraction": {
            "mean": pytest.approx(0.3),
            "median": 0.2,
            "p90": pytest.approx(0.52),
            "max": 0.6,
        },
        "agreement": {"iou50": 1.0, "iou75": 1.0},
        "noise_floor": {"iou50": 1.0, "iou75": 1.0},
        "max_abs_error": 0.0,
        "onnxruntime_error": 0.0,
        "bit_identical": True,
        "strong_boxes": 8,
    }
    assert json.loads(json.dumps(report)) == report


def test_differences_are_counted():
    # The second frame is moved by a quarter of a box (IoU 0.6). Dense is asked twice a frame, then for noise.
    engine = Engine([head(), head(shift=0.5)], [1.0, 0.5])
    dense = Engine([head(), head(), head(), head(score=0.2)])
    report = evaluate(clip(2), engine.step, dense.dense, DECODER, reference=lambda frame: head(shift=-0.004))
    assert report["agreement"] == {"iou50": 1.0, "iou75": 0.5}
    assert report["noise_floor"]["iou50"] == pytest.approx(2 / 3)
    assert report["max_abs_error"] == 0.5
    assert report["bit_identical"] is False
    assert report["onnxruntime_error"] == pytest.approx(0.004, rel=1e-3)


def test_both_sides_see_one_frame_and_noise_another():
    engine, dense = Engine([head()], [1.0]), Engine([head()])
    evaluate(clip(1), engine.step, dense.dense, DECODER)
    assert engine.seen[0].shape == (32, 32, 3)
    assert np.array_equal(engine.seen[0], dense.seen[0])
    assert not np.array_equal(dense.seen[0], dense.seen[1])


def test_outputs_may_be_overwritten_by_the_next_run():
    shared = head()

    def step(frame):
        shared["head"][:] = head()["head"]
        return Incremental(shared, 1.0)

    def dense(frame):
        shared["head"][:] = head(shift=1.0)["head"]
        return shared

    assert evaluate(clip(1), step, dense, DECODER)["max_abs_error"] == 1.0


def test_a_sign_of_zero_is_a_different_bit():
    negative = head()
    negative["head"][0, 0, 0, 0] = -0.0
    report = evaluate(clip(1), Engine([negative], [1.0]).step, Engine([head()]).dense, DECODER)
    assert report["bit_identical"] is False
    assert report["max_abs_error"] == 0.0


def test_no_boxes_is_said_plainly():
    faint = head(score=0.3)
    report = evaluate(clip(1), Engine([faint], [1.0]).step, Engine([faint]).dense, DECODER)
    assert report["agreement"] is None
    assert report["noise_floor"] is None
    assert report["note"] == "no boxes"
    assert report["strong_boxes"] == 0
    assert report["onnxruntime_error"] is None


def test_a_strict_specification_is_loosened_for_the_weak_side():
    strict = Decoder(YoloX(), ModelSpec(family="yolox", labels=("a",), min_confidence=0.9), SIZE)
    engine, dense = Engine([head(score=0.5)], [1.0]), Engine([head(score=0.3)])
    assert evaluate(clip(1), engine.step, dense.dense, strict)["agreement"] == {"iou50": 1.0, "iou75": 1.0}


def test_refuses_an_empty_clip_and_outputs_that_differ():
    with pytest.raises(EvaluationError, match="expected at least one frame, got none"):
        evaluate([], Engine([head()], [1.0]).step, Engine([head()]).dense, DECODER)
    other = {"tail": head()["head"]}
    with pytest.raises(EvaluationError, match="expected the same outputs on both sides"):
        evaluate(clip(1), Engine([other], [1.0]).step, Engine([head()]).dense, DECODER)
    broken = head()
    broken["head"][0, 0, 0, 0] = np.nan
    with pytest.raises(EvaluationError, match="output 'head' with infinities or NaN"):
        evaluate(clip(1), Engine([broken], [1.0]).step, Engine([head()]).dense, DECODER)


def test_progress_counts_frames():
    done = []
    evaluate(clip(3), Engine([head()], [1.0] * 3).step, Engine([head()]).dense, DECODER, progress=done.append)
    assert done == [1, 2, 3]


def test_relative_error_is_the_worst_outputs_own():
    ours = {"a": np.array([1.0, 100.0]), "b": np.array([0.5])}
    theirs = {"a": np.array([2.0, 100.0]), "b": np.array([0.4])}
    assert relative_error(ours, theirs) == pytest.approx(0.25)
    assert summary([0.5]) == {"mean": 0.5, "median": 0.5, "p90": 0.5, "max": 0.5}


def test_whoever_audits_sees_each_frame_and_both_dense_runs():
    seen = []
    wrong, right = Engine([head(shift=0.5)] * 2, [1.0, 0.5]), Engine([head(), head(shift=0.25)])
    evaluate(clip(2), wrong.step, right.dense, DECODER, audit=lambda *what: seen.append(what))
    assert len(seen) == 2
    for (frame, full, noisy), stepped in zip(seen, wrong.seen, strict=True):
        assert np.array_equal(frame, stepped)
        assert (full["head"][0, 0, 2, 2], noisy["head"][0, 0, 2, 2]) == (0, 0.25)
