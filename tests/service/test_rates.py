"""Token buckets: a burst, then the rate; bounded in number; one name never costs another."""

from __future__ import annotations

import pytest

from service.rates import Buckets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 3.0, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b") == 0.0, "others have their own"
    clock.now += 0.25
    assert buckets.take("a") == pytest.approx(0.25)
    clock.now += 0.25
    assert buckets.take("a") == 0.0
    clock.now += 1000
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "never more than the burst"


def test_names_are_bounded_and_the_oldest_is_forgotten() -> None:
    buckets = Buckets(1e-6, 1.0, most=3, clock=Clock())
    for name in "abca":
        buckets.take(name)
    for number in range(10_000):
        buckets.take("a")
        buckets.take(str(number))
        assert len(buckets) <= 3
    assert buckets.take("a") > 0, "whoever keeps asking is not forgotten"


def test_a_slow_rate_still_has_one() -> None:
    buckets = Buckets(0.5, 0.5, clock=Clock())
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 2.0]


def test_those_who_share_names_give_no_more_together() -> None:
    clock, sharers = Clock(), [1]
    buckets = Buckets(6.0, 6.0, clock=clock, sharers=lambda: sharers[0])
    assert [buckets.take("a") for _ in range(6)] == [0.0] * 6
    sharers[0] = 3
    assert buckets.take("a") == pytest.approx(0.5), "a third of the rate"
    clock.now += 1000
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.5], "and of the burst"
    sharers[0] = 100
    clock.now += 1000
    assert buckets.take("a") == 0.0, "a share is one at least"
    assert buckets.take("a") > 0
