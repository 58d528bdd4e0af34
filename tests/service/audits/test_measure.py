"""What an audited frame is found to be, by each kind of budget."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from service.audits.measure import WORST_SHARE, Look, Measure, Measured
from service.calibration.budget import SLACK, Budget
from service.evaluate import NOISE_QUALITY, through_jpeg
from service.families.raw import Raw
from service.families.yolox import YoloX
from service.model_spec import ModelSpec

SIZE = (64, 64)
BOXES = SimpleNamespace(
    family=YoloX(), spec=ModelSpec(family="yolox", labels=("a",), colour="BGR", min_confidence=0.5), size=SIZE
)
NUMBERS = SimpleNamespace(family=Raw(), spec=ModelSpec(family="raw", colour="RGB"), size=SIZE)


def head(score: float = 0.9, shift: float = 0.0) -> dict[str, np.ndarray]:
    """A YOLOX head of one box of 16 px in the middle; score 0: none."""
    values = np.zeros((1, 6, 8, 8), np.float32)
    values[0, :, 4, 4] = [shift, 0, np.log(2), np.log(2), score, 1]
    return {"head": values}


def look(measure: Measure, found: dict, dense: dict, noise: dict | None = None) -> tuple[Measured | None, bool]:
    """One look, and whether it asked for the noisy frame."""
    begun = Look(measure, found)
    asked = begun.dense(dense)
    if asked:
        assert noise is not None
        begun.noise(noise)
    return begun.measured, asked


def test_boxes_against_noise():
    measure = Measure(BOXES, Budget())
    same, asked = look(measure, head(), head(), head())
    assert asked
    assert same == Measured(0.0, SLACK, 2.0)
    assert same.excess == pytest.approx(-SLACK / 2)
    assert same.excess <= measure.faultless
    moved, _ = look(measure, head(shift=0.5), head(), head(shift=0.25))
    assert moved.allowed - SLACK == pytest.approx(1 - 14 / 18)  # 2 of 16 px to the side
    assert moved.error == pytest.approx(1 - 12 / 20)
    assert moved.violation
    within, _ = look(measure, head(shift=0.25), head(), head(shift=0.25))
    assert not within.violation


def test_a_box_that_is_missed_is_the_worst_there_is():
    missed, _ = look(Measure(BOXES, Budget()), head(0.0), head(), head())
    assert missed.error == 2.0
    assert missed.excess == pytest.approx(1 - SLACK / 2)
    ghost, _ = look(Measure(BOXES, Budget()), head(), head(0.0), head(0.0))
    assert ghost.error == 2.0
    assert ghost.violation


def test_faint_boxes_count_though_the_model_would_not_tell_them():
    faint, _ = look(Measure(BOXES, Budget()), head(0.3, shift=0.5), head(0.3), head(0.3))
    assert faint.violation


def test_a_frame_without_boxes_says_nothing_and_costs_one_dense_frame():
    for budget in (Budget(), Budget("agreement", 0.9)):
        assert look(Measure(BOXES, budget), head(0.0), head(0.0)) == (None, False)


def test_agreement_needs_no_noise():
    measure = Measure(BOXES, Budget("agreement", 0.9))
    assert look(measure, head(), head()) == (Measured(0.0, pytest.approx(0.1), 1.0), False)
    assert measure.faultless == pytest.approx(-0.1)
    missed, _ = look(measure, head(0.0), head())
    assert missed.excess == pytest.approx(0.9)
    assert missed.violation


def values(gap: float) -> dict[str, np.ndarray]:
    """One output of variance 1, and so far from it."""
    return {"y": np.tile(np.array([-1.0, 1.0], np.float32), 50) + np.float32(gap)}


def test_errors_of_outputs():
    measure = Measure(BOXES, Budget("error", 0.01))
    # YOLOX reads spatial heads; an error of outputs asks for no box, but decodes all the same.
    same, asked = look(measure, head(), head())
    assert (same.error, same.violation, asked) == (0.0, False, False)
    raw = Measure(NUMBERS, Budget("error", 0.01))
    half, _ = look(raw, values(np.sqrt(0.005)), values(0))
    assert half.error == pytest.approx(0.5, rel=1e-4)
    assert half.allowed == 1
    worst, _ = look(raw, values(100), values(0))
    assert worst.error == WORST_SHARE
    assert worst.excess == 1.0


def test_outputs_against_noise_where_there_are_no_boxes():
    measure = Measure(NUMBERS, Budget())
    same_as_noise, asked = look(measure, values(0.1), values(0), values(-0.1))
    assert asked
    assert same_as_noise.error == pytest.approx(1.0, rel=1e-4)
    above, _ = look(measure, values(0.2), values(0), values(0.1))
    assert above.error == pytest.approx(4.0, rel=1e-4)
    assert above.violation
    nothing, _ = look(measure, values(0), values(0), values(0))
    assert not nothing.violation
    assert nothing.excess <= measure.faultless
    silent, _ = look(measure, values(0.1), values(0), values(0))
    assert silent.error == WORST_SHARE, "noise does nothing: nothing is allowed"


def test_what_is_not_finite_says_nothing():
    broken = values(0)
    broken["y"][3] = np.nan
    for budget in (Budget(), Budget("error", 0.01)):
        measure = Measure(NUMBERS, budget)
        assert look(measure, broken, broken) == (None, False)
        assert look(measure, broken, values(0)) == (None, False)
    assert look(Measure(NUMBERS, Budget()), values(0.1), values(0), broken) == (None, True)


def test_what_the_stream_does_next_does_not_change_a_look():
    found = head()
    begun = Look(Measure(BOXES, Budget()), found)
    found["head"][:] = 0
    begun.dense(head())
    begun.noise(head())
    assert begun.measured.error == 0


def test_noise_before_the_dense_frame_is_refused():
    with pytest.raises(ValueError, match="expected the dense outputs first"):
        Look(Measure(BOXES, Budget()), head()).noise(head())


def test_noise_is_the_calibrations_in_the_models_colours():
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    assert np.array_equal(Measure(BOXES, Budget()).noisy(frame), through_jpeg(frame, NOISE_QUALITY))
    rgb = Measure(NUMBERS, Budget()).noisy(np.ascontiguousarray(frame[:, :, ::-1]))
    assert np.array_equal(rgb[:, :, ::-1], through_jpeg(frame, NOISE_QUALITY))
    grey = np.ascontiguousarray(frame[:, :, :1])
    spec = ModelSpec(family="raw", colour="GRAY")
    noisy = Measure(SimpleNamespace(family=Raw(), spec=spec, size=SIZE), Budget()).noisy(grey)
    assert noisy.shape == grey.shape
    assert 0 < np.abs(noisy.astype(int) - grey).mean() < 40
