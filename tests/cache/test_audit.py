"""Both promises of audits: one for whatever comes, one with a stated confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.audit import Controller, MeanBound

RUNS, AUDITS = 300, 250
EXCESS = st.floats(-1, 1)


def play(controller: Controller, excess: float) -> float:
    """Add an excess as a stream can have it: a frame that is computed whole is never above its budget."""
    taken = min(excess, -controller.margin) if controller.whole else excess
    controller.add(taken)
    return taken


@given(st.lists(EXCESS, min_size=1, max_size=200), st.floats(0.05, 5), st.floats(0.01, 1), st.floats(0, 0.2))
def test_whatever_comes_the_mean_excess_stays_below_the_guarantee(sequence, step, lowest, margin):
    controller, total = Controller(step=step, lowest=lowest, margin=margin), 0.0
    for excess in sequence:
        total += play(controller, excess)
        assert total / controller.audits <= controller.guarantee + 1e-9
        assert controller.factor == 0 or lowest <= controller.factor <= 2
    assert controller.audits == len(sequence)


@pytest.mark.parametrize("credit", [-1e-3, -0.03, -1.0])
def test_an_opponent_who_knows_the_factor_gains_nothing(credit):
    """Every frame with thresholds is as bad as can be; every whole frame gives as little credit as it may."""
    controller, total, whole = Controller(), 0.0, 0
    for _ in range(2000):
        whole += controller.whole
        total += play(controller, credit if controller.whole else 1.0)
    assert total <= controller.guarantee * controller.audits
    assert whole > 0
    assert total / 2000 < 0.002
    assert controller.guarantee == pytest.approx((1 + math.log(8)) / 2000)


def test_with_a_margin_the_budget_itself_is_kept_in_the_end():
    controller, total = Controller(margin=0.01), 0.0
    for _ in range(400):
        total += play(controller, -0.03 if controller.whole else 1.0)
    assert controller.guarantee < 0
    assert total / 400 <= controller.guarantee


def test_one_violation_lowers_and_credit_raises_up_to_one():
    controller = Controller(step=0.5)
    assert controller.factor == 1.0
    controller.add(0.4)
    assert controller.factor == pytest.approx(math.exp(-0.2))
    for _ in range(10):
        controller.add(-0.1)
    assert controller.factor == 1.0, "more than calibrated is for streams that are known to keep their budget"


def test_above_one_only_while_audits_support_it():
    controller, seen = Controller(), set()
    for _ in range(1000):
        controller.add(-0.04)
        supported = controller.bound.upper <= 0
        seen.add((supported, controller.factor > 1))
    assert seen == {(False, False), (True, True)}
    assert controller.factor == pytest.approx(2.0)
    while controller.bound.upper <= 0:
        controller.add(0.0)
        controller.add(0.1)
    assert controller.factor <= 1


def test_whole_frames_count_for_the_factor_and_not_for_the_bound():
    controller = Controller(lowest=0.5)
    controller.add(1.0)
    assert controller.whole
    assert controller.factor == 0
    upper, needed = controller.bound.upper, 0
    while controller.whole:
        controller.add(-0.03, drawn=False)
        needed += 1
    assert needed == math.ceil((1 - math.log(2)) / 0.03), "what was too much is made up for"
    assert (controller.bound.count, controller.bound.upper) == (1, upper)
    assert controller.audits == 1 + needed


def clip_like(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Excesses whose mean wanders, and that mean: quiet, then rare large errors, then noise."""
    mean = np.concatenate([np.full(100, -0.03), np.full(100, 0.05), np.linspace(0.0, 0.3, AUDITS - 200)])
    rare = np.where(rng.random(AUDITS) < 0.09, 1.0, (0.05 - 0.09) / 0.91)
    noise = mean + rng.uniform(-0.3, 0.3, AUDITS)
    quiet = mean + rng.normal(0, 0.02, AUDITS).clip(-0.1, 0.1)
    drawn = np.select([np.arange(AUDITS) < 100, np.arange(AUDITS) < 200], [quiet, rare], noise)
    return drawn, mean


def misses(confidence: float) -> tuple[int, int]:
    """Of `RUNS` streams: those whose bound was ever below the truth, and those whose plain mean was."""
    rng, bad, plain = np.random.default_rng(5), 0, 0
    for _ in range(RUNS):
        drawn, mean = clip_like(rng)
        bound, low, wrong = MeanBound(confidence), False, False
        truth = np.cumsum(mean) / np.arange(1, AUDITS + 1)
        for excess, true in zip(drawn, truth, strict=True):
            bound.add(float(excess))
            wrong |= bound.upper < true - 1e-12
            low |= bound.mean < true - 1e-12
        bad, plain = bad + wrong, plain + low
    return bad, plain


def test_the_bound_holds_at_all_moments_with_the_stated_confidence():
    bad, plain = misses(0.9)
    assert bad <= 0.1 * RUNS
    assert plain > 0.9 * RUNS, "or these streams would not have put the bound to the test"


def test_the_bound_becomes_useful():
    rng, bound = np.random.default_rng(1), MeanBound(0.95)
    assert bound.upper == 1
    uppers = []
    for _ in range(400):
        bound.add(float(rng.normal(-0.04, 0.02)))
        uppers.append(bound.upper)
    assert uppers[0] == 1, "one frame says little"
    assert uppers[99] < 0.05
    assert uppers[399] < -0.02
    assert bound.mean == pytest.approx(-0.04, abs=0.005)


def test_more_confidence_is_a_wider_bound():
    bounds = [MeanBound(confidence) for confidence in (0.5, 0.9, 0.99)]
    for bound in bounds:
        for excess in (0.1, -0.2, 0.0, 0.3) * 20:
            bound.add(excess)
    uppers = [bound.upper for bound in bounds]
    assert uppers == sorted(uppers)
    assert len(set(uppers)) == 3


@pytest.mark.parametrize("excess", [1.01, math.nan, math.inf, -math.inf])
def test_what_is_no_excess_is_refused(excess):
    for taker in (MeanBound(), Controller()):
        with pytest.raises(ValueError, match="expected an excess of at most 1, got"):
            taker.add(excess)
        assert taker.bound.count == 0 if isinstance(taker, Controller) else taker.count == 0


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="confidence above 0 and below 1, got 1"):
        MeanBound(1.0)
    with pytest.raises(ValueError, match=r"margin of 0 or more and below 1, got -0\.1"):
        Controller(margin=-0.1)
    with pytest.raises(ValueError, match="step above 0, got 0"):
        Controller(step=0.0)
    for lowest, highest in ((0.0, 2.0), (2.0, 3.0), (0.5, 0.9)):
        with pytest.raises(ValueError, match="0 < lowest <= 1 <= highest"):
            Controller(lowest=lowest, highest=highest)
