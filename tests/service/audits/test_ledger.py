"""Audits never take more than their share of the time that passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audits.ledger import SAVED_S, Ledger


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


PASSES = st.floats(0, 30)
COSTS = st.floats(0.001, 0.5)


@given(st.lists(st.tuples(PASSES, COSTS), max_size=100), st.floats(0.001, 1))
def test_what_is_spent_is_a_share_of_what_passed(days, share):
    clock = Clock()
    ledger = Ledger(share, clock)
    spent = 0.0
    for passed, cost in days:
        clock.now += passed
        if ledger.affords(cost):
            ledger.charge(cost)
            clock.now += cost  # the audit itself takes time
            spent += cost
        assert spent <= share * (clock.now - 1000) + 1e-9
    assert ledger.spent_s == pytest.approx(spent)


def test_what_was_overdrawn_is_paid_off_before_the_next():
    clock = Clock()
    ledger = Ledger(0.02, clock)
    clock.now += 5
    assert ledger.affords(0.1)
    ledger.charge(0.3)
    clock.now += 10
    assert not ledger.affords(0.1), "0.2 s are owed, and 0.2 s were earned"
    clock.now += 5.1
    assert ledger.affords(0.1)


def test_a_night_is_not_saved_up():
    clock = Clock()
    ledger = Ledger(0.02, clock)
    clock.now += 8 * 3600
    taken = 0
    while ledger.affords(0.05):
        ledger.charge(0.05)
        taken += 1
    assert taken == round(0.02 * SAVED_S / 0.05)


def test_what_costs_more_than_that_is_saved_up_for():
    clock = Clock()
    ledger = Ledger(0.02, clock)
    asked = 0
    while not ledger.affords(1.0):
        clock.now += 1
        asked += 1
        assert asked < 100
    assert asked == pytest.approx(50, abs=1)


def test_no_share_affords_nothing():
    clock = Clock()
    ledger = Ledger(0.0, clock)
    clock.now += 1e6
    assert not ledger.affords(0.0)


def test_wrong_numbers_are_refused():
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match="expected a share of 0 to 1"):
            Ledger(share)
    with pytest.raises(ValueError, match="expected 0 seconds or more, got -1"):
        Ledger(0.1).charge(-1)
