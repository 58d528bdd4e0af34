"""Fair turns, in simulated time: no thread, no clock. Loads are those of cameras, newest frame wins."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from service.turns import QUANTUM_S, Share, Turns

SECONDS = 30.0
FLOOD_FPS = 60.0
MODEST_FPS = 5.0


@dataclass(eq=False)
class Camera(Share):
    """Offers a frame every 1 / fps seconds from `first_s` on; one waits at most, and a newer one takes its place."""

    fps: float
    costs_s: tuple[float, ...]
    first_s: float = 0.0
    pending: int = 0
    results: int = 0
    used_s: float = 0.0
    order: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def cost(self) -> float:
        return self.costs_s[self.results % len(self.costs_s)]


def simulate(cameras: list[Camera], workers: int = 1, seconds: float = SECONDS, group: int = 1) -> list[int]:
    """Results of each camera. group : so many of them are processed together, at the sum of their costs."""
    turns: Turns[Camera] = Turns()
    free = workers
    events: list[tuple[float, int, str, tuple[Camera, ...]]] = []
    for number, camera in enumerate(cameras):
        heapq.heappush(events, (camera.first_s, number, "frame", (camera,)))
    tie = len(cameras)
    while events and events[0][0] < seconds:
        now, _, kind, subjects = heapq.heappop(events)
        tie += 1
        if kind == "frame":
            (camera,) = subjects
            camera.pending = 1
            turns.wait(camera)
            heapq.heappush(events, (now + 1 / camera.fps, tie, "frame", subjects))
        else:
            free += 1
            for camera in subjects:
                turns.done(camera, camera.cost)
                camera.used_s += camera.cost
                camera.results += 1
                camera.order.append(now)
                if camera.pending:
                    turns.wait(camera)
        while free and (camera := turns.take()) is not None:
            taken = (camera, *turns.riders(group - 1, lambda other: True))
            for one in taken:
                one.pending = 0
            free -= 1
            tie += 1
            heapq.heappush(events, (now + sum(one.cost for one in taken), tie, "done", taken))
    return [camera.results for camera in cameras]


def modest(costs_ms: tuple[float, ...], first_s: float = 0.0) -> Camera:
    return Camera(MODEST_FPS, tuple(cost / 1e3 for cost in costs_ms), first_s)


def flood(costs_ms: tuple[float, ...]) -> Camera:
    return Camera(FLOOD_FPS, tuple(cost / 1e3 for cost in costs_ms))


def costs(most_ms: float):
    return st.lists(st.floats(0.2, most_ms), min_size=1, max_size=5).map(tuple)


@given(costs(70), costs(100), st.floats(0, 0.2))
@example((30.0,), (16.0,), 0.0)
def test_a_flood_costs_a_slow_stream_less_than_a_tenth(slow: tuple, fast: tuple, first_s: float) -> None:
    assume(sum(slow) / len(slow) * MODEST_FPS / 1e3 < 0.45)  # less than its half of the worker
    (alone,) = simulate([modest(slow, first_s)])
    with_flood, _ = simulate([modest(slow, first_s), flood(fast)])
    assert with_flood > 0.9 * alone


def test_one_slow_stream_among_ten_floods() -> None:
    """In plain turn it would wait for ten frames of 30 ms, and get half of its frames."""
    slow, *_ = simulate([modest((5,)), *[flood((30,)) for _ in range(10)]])
    assert slow > 0.9 * MODEST_FPS * SECONDS


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.2, 15), st.floats(0, 0.2)), min_size=1, max_size=8),
    st.lists(costs(60), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_whoever_wants_less_than_a_fair_share_gets_it(slow: list, fast: list, workers: int) -> None:
    fair = workers / (len(slow) + len(fast))
    assume(all(cost * MODEST_FPS / 1e3 < 0.9 * fair for cost, _ in slow))
    cameras = [modest((cost,), first_s) for cost, first_s in slow]
    alone = simulate([modest((cost,), first_s) for cost, first_s in slow], workers)
    together = simulate(cameras + [flood(each) for each in fast], workers)
    for one, both in zip(alone, together, strict=False):
        assert both > 0.9 * one


@given(st.lists(st.floats(18, 90), min_size=2, max_size=6))
def test_floods_of_unequal_cost_get_equal_time(each: list[float]) -> None:
    cameras = [flood((cost,)) for cost in each]
    simulate(cameras)
    used = [camera.used_s for camera in cameras]
    assert max(used) - min(used) <= 3 * max(each) / 1e3 + QUANTUM_S, "one item ahead, one behind, one under way"


@given(st.lists(st.floats(20, 60), min_size=2, max_size=6))
def test_those_who_ride_along_pay_for_it(each: list[float]) -> None:
    """Together or not, nobody is ahead by more than two items."""
    cameras = [flood((cost,)) for cost in each]
    simulate(cameras, group=3)
    used = [camera.used_s for camera in cameras]
    assert max(used) - min(used) <= 5 * max(each) / 1e3 + QUANTUM_S


def test_who_had_the_worker_alone_owes_nothing_for_it() -> None:
    first, second = flood((50,)), Camera(FLOOD_FPS, (0.05,), 20.0)
    simulate([first, second])
    assert second.used_s == pytest.approx(5.0, abs=0.2), "half of what is left of the time"
    assert first.used_s == pytest.approx(25.0, abs=0.2)


def test_what_comes_for_a_share_that_owes_nothing_is_next() -> None:
    turns: Turns[Share] = Turns()
    busy, other, quiet = Share(), Share(), Share()
    for share in (busy, other):
        turns.wait(share)
    assert turns.take() is busy
    turns.done(busy, 0.05)
    turns.wait(busy)
    assert turns.take() is other
    turns.done(other, 0.05)
    turns.wait(other)
    turns.wait(quiet)
    assert turns.take() is quiet
    turns.done(quiet, 0.2)
    turns.wait(quiet)
    assert [turns.take(), turns.take(), turns.take()] == [busy, other, quiet], "and owes for it now"


def test_a_share_that_leaves_keeps_its_debt_and_not_its_place() -> None:
    turns: Turns[Share] = Turns()
    greedy, patient = Share(), Share()
    turns.wait(greedy)
    turns.take()
    turns.wait(patient)
    turns.done(greedy, 1.0)
    turns.wait(greedy)
    turns.leave(greedy)
    turns.leave(greedy)
    turns.wait(greedy)
    assert turns.waiting == 2
    assert turns.take() is patient
    turns.done(patient, 0.5)
    turns.wait(patient)
    assert turns.take() is patient, "half a second against one"
    turns.leave(greedy)
    assert turns.waiting == 0
    assert turns.take() is None


def test_riders_are_those_that_fit_and_owe_little() -> None:
    turns: Turns[Share] = Turns()
    first, second, stranger, debtor = (Share() for _ in range(4))
    turns.wait(debtor)
    turns.take()
    for share in (first, second, stranger):
        turns.wait(share)
    turns.done(debtor, 0.01)
    turns.wait(debtor)
    debtor.credit_s = -0.05
    assert turns.take() is first
    assert turns.riders(0, lambda share: True) == []
    assert turns.riders(5, lambda share: share is not stranger) == [second]
    assert turns.waiting == 2
    assert all(share.running for share in (first, second))


def test_what_an_item_usually_costs_follows_the_newest() -> None:
    turns: Turns[Share] = Turns()
    share = Share()
    for cost in (0.08, *[0.01] * 40):
        turns.wait(share)
        turns.take()
        turns.done(share, cost)
        turns.take()
    assert share.items == 41
    assert share.cost_s == pytest.approx(0.01, abs=0.001)
    assert share.mean_s == pytest.approx((0.08 + 40 * 0.01) / 41)
