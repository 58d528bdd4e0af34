"""Damage of boxes and outputs, and budgets."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.budget import Budget, BudgetError
from service.calibration.damage import SAMPLES, Damage, Figures, box_damage, samples
from service.families.base import Detections


def boxes(*rows: tuple[float, float, float, float, float]) -> Detections:
    """left, top, right, bottom, score of each."""
    found = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(found[:, :4], found[:, 4], np.zeros(len(found), np.int32))


def test_damage_of_a_box_is_what_it_slipped_and_its_score_lost():
    here, slipped = boxes((0, 0, 10, 10, 0.8)), boxes((0, 0, 10, 5, 0.6))
    assert box_damage(here, here) == (0.0, pytest.approx(1.6))
    total, weight = box_damage(here, slipped)
    assert weight == pytest.approx(1.4)
    assert total == pytest.approx(1.4 * (0.5 + 0.2), rel=1e-5)


def test_a_box_without_a_partner_counts_two():
    here, far = boxes((0, 0, 10, 10, 0.5)), boxes((50, 50, 60, 60, 0.5))
    assert box_damage(here, boxes()) == (pytest.approx(1.0), pytest.approx(0.5))
    assert box_damage(here, far) == (pytest.approx(2.0), pytest.approx(1.0))
    other_class = Detections(here.xyxy, here.score, np.ones(1, np.int32))
    assert box_damage(here, other_class)[0] == pytest.approx(2.0)


def test_faint_boxes_do_not_count():
    assert box_damage(boxes((0, 0, 9, 9, 0.05)), boxes()) == (0.0, 0.0)


def test_samples_are_bounded_and_always_the_same():
    values = np.arange(3 * SAMPLES + 5, dtype=np.float32)
    taken = samples({"a": values, "n": np.arange(4), "e": np.zeros(0, np.float32)})
    assert list(taken) == ["a"]
    assert taken["a"].size <= SAMPLES
    assert np.array_equal(taken["a"], samples({"a": values})["a"])


def test_error_is_in_units_of_the_spread():
    damage = Damage({"y": 4.0})
    truth = {"y": np.zeros(8, np.float32)}
    for fraction, off in ((None, 0.0), (0.25, 2.0), (0.75, 4.0)):
        damage.add(boxes(), boxes(), {"y": np.full(8, off, np.float32)}, truth, fraction)
    found = damage.figures()
    assert found == Figures(0.5, None, pytest.approx((0 + 1 + 4) / 3), None, None)


def figures(iou50: float | None = 1.0, iou75: float | None = 1.0, boxes: float | None = 0.05, error: float = 0.1):
    return Figures(0.5, boxes, error, iou50, iou75)


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("noise", "noise", 0.0), ("0.99", "agreement", 0.99), ("1", "agreement", 1.0), ("error=0.002", "error", 0.002),
])  # fmt: skip
def test_budgets_are_read(text, kind, value):
    assert Budget.parse(text) == Budget(kind, value)
    assert Budget.parse(str(Budget.parse(text))) == Budget(kind, value)


@pytest.mark.parametrize("text", ["", "loud", "1.5", "0", "-1", "error=", "error=0", "error=nan", "noise=1"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(BudgetError, match="expected"):
        Budget.parse(text)


def test_the_noise_budget_is_that_of_the_floor():
    budget, noise = Budget(), figures(0.99, 0.95, 0.05)
    assert budget.holds(figures(0.986, 0.94, 0.1), noise)
    assert not budget.holds(figures(0.98, 0.94, 0.1), noise)
    assert not budget.holds(figures(0.99, 0.92, 0.1), noise)
    assert not budget.holds(figures(0.99, 0.95, 0.2), noise)


def test_without_boxes_the_noise_budget_is_one_of_outputs():
    noise = figures(None, None, None, 0.1)
    assert Budget().holds(figures(None, None, None, 0.1), noise)
    assert not Budget().holds(figures(None, None, None, 0.11), noise)


def test_budgets_of_agreement_and_error():
    assert Budget("agreement", 0.97).holds(figures(0.97, 0.1), figures())
    assert not Budget("agreement", 0.97).holds(figures(0.96), figures())
    assert Budget("error", 0.1).holds(figures(0.0), figures())
    assert not Budget("error", 0.05).holds(figures(), figures())
