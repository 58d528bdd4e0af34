"""When a connection that says nothing is given up, on a clock of the test's own."""

from __future__ import annotations

import pytest

from clients.python.patience import MAX_GRACE_S, Patience


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_due_is_never_late(clock: Clock) -> None:
    patience = Patience(10.0, clock)
    clock.now += 1000
    assert patience.pause_s(due=False) == 10.0
    assert not patience.is_out(due=False)
    assert not patience.late


def test_what_is_due_is_waited_for_then_listened_for_then_given_up(clock: Clock) -> None:
    patience = Patience(10.0, clock)
    patience.renew()
    clock.now += 4
    assert patience.pause_s(due=True) == pytest.approx(6)
    clock.now += 6
    assert patience.pause_s(due=True) == MAX_GRACE_S
    assert patience.late
    assert not patience.is_out(due=True)
    clock.now += MAX_GRACE_S
    assert patience.pause_s(due=True) == 0.0
    assert patience.is_out(due=True)
    patience.renew()
    assert (patience.late, patience.is_out(due=True), patience.pause_s(due=True)) == (False, False, 20.0)
    patience.settled()
    assert patience.pause_s(due=True) == 10.0


def test_each_in_a_row_is_waited_for_twice_as_long_and_not_for_ever(clock: Clock) -> None:
    patience, waited = Patience(1.0, clock), []
    for _ in range(9):
        patience.renew()
        waited.append(patience.pause_s(due=True))
        clock.now += 1000
        patience.pause_s(due=True)
        clock.now += 1000
        assert patience.is_out(due=True)
    assert waited == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_who_was_away_listens_before_judging(clock: Clock) -> None:
    patience = Patience(2.0, clock)
    patience.renew()
    clock.now += 3600
    assert not patience.is_out(due=True)
    assert patience.pause_s(due=True) == 1.0, "half of the timeout, where that is shorter"


def test_for_ever(clock: Clock) -> None:
    patience = Patience(None, clock)
    patience.renew()
    clock.now += 1e9
    assert patience.pause_s(due=True) is None
    assert not patience.is_out(due=True)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_bounds(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="expected a timeout above 0"):
        Patience(timeout_s)
