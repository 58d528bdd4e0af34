"""Live figures of a stream, by a clock of the test's own."""

from __future__ import annotations

import pytest

from service.figures import RECENT, STAGES, Figures, Rate, Recent


class Clock:
    def __init__(self) -> None:
        self.now = 1000.25

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_of_the_last_seconds() -> None:
    rate, now = Rate(), 1000.25
    assert rate.per_second(now) == 0
    rate.add(now)
    assert rate.per_second(now) == 1, "over a second at least"
    for n in range(1, 300):
        rate.add(now + n / 15)
    assert rate.per_second(now + 299 / 15) == pytest.approx(15, rel=0.02)
    assert rate.per_second(now + 299 / 15 + 5) == pytest.approx(15 * 5.5 / 10.5, rel=0.1)
    assert rate.per_second(now + 1000) == 0


def test_a_rate_forgets_what_lies_a_round_back() -> None:
    rate = Rate()
    for second in (0.5, 11.5, 22.5):  # one place of the ring
        rate.add(second)
        assert rate.per_second(second) == pytest.approx(1 / max(1.0, min(second - 0.5, 10.5)))


def test_quantiles_are_of_the_last_frames() -> None:
    recent = Recent()
    assert recent.quantiles(0.5) is None
    recent.add(3)
    assert recent.quantiles(0.5, 0.99) == [3, 3]
    for value in range(1, 101):
        recent.add(value)
    assert recent.quantiles(0.5, 0.99, 1) == [50, 99, 100]
    for _ in range(RECENT):
        recent.add(7)
    assert recent.quantiles(0, 0.5, 1) == [7, 7, 7]
    recent.add(9)
    assert recent.quantiles(0.5, 1) == [7, 9]


def test_everything_is_told() -> None:
    clock = Clock()
    figures = Figures(clock)
    empty = figures.describe()
    assert (empty["fps"], empty["last"], empty["idle_s"], empty["age_ms"]) == ({"in": 0, "out": 0}, None, None, None)
    assert empty["latency_ms"] == dict.fromkeys(STAGES)
    for seq in range(1, 41):
        clock.now += 0.1
        figures.received(1000)
        if seq % 2:
            decision = "keyframe" if seq == 1 else "partial"
            figures.computed(seq, decision, f"{seq} of 99 tiles changed", 0.25, (1.0, 2.0, 0.5, float(seq), 40.0))
            figures.sent(41.0)
        else:
            figures.dropped(1, "replaced")
    clock.now += 2
    told = figures.describe()
    assert told["fps"] == {"in": pytest.approx(40 / 5.9, abs=0.01), "out": pytest.approx(20 / 5.9, abs=0.01)}
    assert told["latency_ms"]["queue"] == {"p50": 1, "p99": 1}
    assert told["latency_ms"]["infer"] == {"p50": 19, "p99": 39}
    assert told["age_ms"] == {"p50": 41, "p99": 41}
    assert told["decisions"] == {"keyframe": 1, "partial": 19}
    assert told["dropped_by_cause"] == {"replaced": 20}
    assert (told["bytes_received"], told["idle_s"]) == (40_000, pytest.approx(2.1))
    last = {"seq": 39, "decision": "partial", "reason": "39 of 99 tiles changed", "compute_fraction": 0.25}
    assert told["last"] == last
    assert figures.brief() == {"fps": told["fps"], "last": last}


@pytest.mark.parametrize(
    ("capture_s", "usable"), [(7e-6, False), (-90, False), (-0.25, True), (0.05, True), (3, False)]
)
def test_a_senders_clock_is_judged_by_a_connections_first_frame(capture_s: float, usable: bool) -> None:
    """capture_s : before or after now, but for a clock that counts from the sender's start."""
    now, figures = 1_790_000_000.0, Figures()
    capture_us = int((capture_s if capture_s == 7e-6 else now + capture_s) * 1e6)
    figures.judge_clock(capture_us, now)
    assert figures.clock_usable is usable
    for second in (now, now - 1e6):
        figures.judge_clock(int(second * 1e6), now)
        assert figures.clock_usable is usable, "it is not asked again"
    figures.opened()
    assert figures.clock_usable is None
