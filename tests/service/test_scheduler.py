"""Lanes and workers: bounded, one at a time, fair turns, latest wins, groups."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from service_fakes import wait_until

from clients.wire import Policy
from service.scheduler import Group, Scheduler


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler(workers=3)
    made.start()
    yield made
    assert made.stop(5.0)


class Gate:
    """A process that notes its items and can be held."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.seen: list[int] = []
        self.inside = 0
        self.most = 0

    def __call__(self, item: int) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.open.wait(10)
        self.seen.append(item)
        self.inside -= 1


def test_a_lane_is_in_order_and_never_in_two_workers(scheduler: Scheduler) -> None:
    gate = Gate()
    lane = scheduler.lane(gate, policy=Policy.ALL, capacity=1000)
    for item in range(500):
        assert scheduler.submit(lane, item) == (True, [])
    wait_until(lambda: len(gate.seen) == 500)
    assert gate.seen == list(range(500))
    assert gate.most == 1


class Big:
    """An item whose lifetime can be watched."""


def test_an_idle_worker_holds_no_item(scheduler: Scheduler) -> None:
    item = Big()
    watched = weakref.ref(item)
    lane = scheduler.lane(lambda _: None, policy=Policy.ALL, capacity=1)
    scheduler.submit(lane, item)
    del item
    wait_until(lambda: watched() is None)


def test_stop_waits_once_for_all_workers() -> None:
    held, busy = threading.Event(), Scheduler(workers=4)
    busy.start()
    lanes = [busy.lane(lambda _: held.wait(10), policy=Policy.ALL, capacity=1) for _ in range(4)]
    for lane in lanes:
        busy.submit(lane, 0)
    wait_until(lambda: all(lane.running for lane in lanes))
    started = time.monotonic()
    assert not busy.stop(0.3)
    assert time.monotonic() - started < 0.9
    held.set()


def test_what_is_sent_upon_an_answer_does_not_replace_what_is_next() -> None:
    """The answer is out, the worker has not come back yet: a client with two credits sends its third item."""
    seen: list[int] = []
    out, back = threading.Event(), threading.Event()

    def process(item: int) -> None:
        seen.append(item)
        if item == 1:
            scheduler.answered(lane)
            out.set()
            assert back.wait(10)

    scheduler = Scheduler(workers=1)
    scheduler.start()
    lane = scheduler.lane(process, policy=Policy.LATEST, capacity=2)
    scheduler.submit(lane, 1)
    wait_until(lambda: lane.running)
    assert scheduler.submit(lane, 2) == (True, [])
    assert out.wait(10)
    assert scheduler.submit(lane, 3) == (True, [])
    assert scheduler.submit(lane, 4) == (True, [3]), "but latest wins among what comes after"
    back.set()
    wait_until(lambda: seen == [1, 2, 4])
    assert lane.dropped == 1
    assert scheduler.stop(5.0)


def test_an_answer_protects_nobody_while_other_lanes_wait() -> None:
    """The only worker goes on with another lane: until it is back, latest wins as ever."""
    back, held = threading.Event(), threading.Event()
    seen: list[int] = []

    def process(item: int) -> None:
        seen.append(item)
        if item == 1:
            scheduler.answered(lane)
            assert back.wait(10)

    scheduler = Scheduler(workers=1)
    scheduler.start()
    lane = scheduler.lane(process, policy=Policy.LATEST, capacity=2)
    other = scheduler.lane(lambda _: held.wait(10), policy=Policy.LATEST, capacity=2)
    scheduler.submit(lane, 1)
    wait_until(lambda: lane.assured)
    scheduler.submit(other, 0)
    assert scheduler.submit(lane, 2) == (True, [])
    back.set()
    wait_until(lambda: other.running)
    assert scheduler.submit(lane, 3) == (True, [2])
    held.set()
    wait_until(lambda: seen == [1, 3])
    assert scheduler.stop(5.0)


def test_latest_keeps_one_and_counts_the_others(scheduler: Scheduler) -> None:
    gate = Gate()
    gate.open.clear()
    lane = scheduler.lane(gate, policy=Policy.LATEST, capacity=1)
    scheduler.submit(lane, 0)
    wait_until(lambda: gate.inside == 1)
    replaced = [scheduler.submit(lane, item) for item in range(1, 101)]
    assert len(lane.pending) == 1
    assert replaced[0] == (True, [])
    assert replaced[1:] == [(True, [item]) for item in range(1, 100)]
    assert lane.dropped == 99
    gate.open.set()
    wait_until(lambda: len(gate.seen) == 2)
    assert gate.seen == [0, 100]


def test_all_refuses_when_full_and_tells_of_room(scheduler: Scheduler) -> None:
    gate, room = Gate(), threading.Semaphore(0)
    gate.open.clear()
    lane = scheduler.lane(gate, policy=Policy.ALL, capacity=2, taken=room.release)
    scheduler.submit(lane, 0)
    assert room.acquire(timeout=5)
    assert [scheduler.submit(lane, item)[0] for item in (1, 2, 3)] == [True, True, False]
    gate.open.set()
    assert room.acquire(timeout=5)
    assert scheduler.submit(lane, 3)[0]
    wait_until(lambda: gate.seen == [0, 1, 2, 3])


def test_lanes_take_turns() -> None:
    scheduler = Scheduler(workers=1)
    order: list[str] = []
    greedy = scheduler.lane(lambda item: order.append("greedy"), policy=Policy.ALL, capacity=100)
    modest = scheduler.lane(lambda item: order.append("modest"), policy=Policy.ALL, capacity=100)
    for item in range(20):
        scheduler.submit(greedy, item)
    for item in range(3):
        scheduler.submit(modest, item)
    scheduler.start()
    wait_until(lambda: len(order) == 23)
    assert order[:6] == ["greedy", "modest"] * 3
    assert scheduler.stop(5.0)


def test_lanes_run_side_by_side(scheduler: Scheduler) -> None:
    barrier = threading.Barrier(3, timeout=5)
    done: list[int] = []

    def meet(item: int) -> None:
        barrier.wait()
        done.append(item)

    for item in range(3):
        scheduler.submit(scheduler.lane(meet, policy=Policy.ALL, capacity=1), item)
    wait_until(lambda: len(done) == 3)


def test_a_process_that_raises_stops_nobody(scheduler: Scheduler, caplog) -> None:
    seen: list[int] = []

    def process(item: int) -> None:
        if item % 2:
            raise ValueError(item)
        seen.append(item)

    lane = scheduler.lane(process, policy=Policy.ALL, capacity=10)
    for item in range(10):
        scheduler.submit(lane, item)
    wait_until(lambda: lane.idle and len(seen) == 5)
    assert "lane's process raised" in caplog.text


def test_clear_and_close(scheduler: Scheduler) -> None:
    gate = Gate()
    gate.open.clear()
    lane = scheduler.lane(gate, policy=Policy.ALL, capacity=10)
    for item in range(4):
        scheduler.submit(lane, item)
    wait_until(lambda: gate.inside == 1)
    assert scheduler.clear(lane) == [1, 2, 3]
    assert scheduler.submit(lane, 9)[0]
    assert scheduler.clear(lane, close=True) == [9]
    assert scheduler.submit(lane, 10) == (False, [])
    gate.open.set()
    wait_until(lambda: lane.idle)
    assert gate.seen == [0]


def test_stop_forgets_what_waits() -> None:
    scheduler = Scheduler(workers=1)
    scheduler.start()
    gate = Gate()
    gate.open.clear()
    lane = scheduler.lane(gate, policy=Policy.ALL, capacity=10)
    for item in range(4):
        scheduler.submit(lane, item)
    wait_until(lambda: gate.inside == 1)
    threading.Timer(0.1, gate.open.set).start()
    assert scheduler.stop(5.0)
    assert gate.seen == [0]
    assert scheduler.submit(lane, 5) == (False, [])


def test_a_stuck_worker_is_reported() -> None:
    scheduler = Scheduler(workers=1)
    scheduler.start()
    gate = Gate()
    gate.open.clear()
    scheduler.submit(scheduler.lane(gate, policy=Policy.ALL, capacity=1), 0)
    wait_until(lambda: gate.inside == 1)
    assert scheduler.stop(0.05) is False
    gate.open.set()
    time.sleep(0.01)


def test_bounds() -> None:
    with pytest.raises(ValueError, match="at least 1 worker"):
        Scheduler(0)
    with pytest.raises(ValueError, match="capacity of at least 1"):
        Scheduler(1).lane(print, policy=Policy.ALL, capacity=0)


class Spare:
    """Spare work that notes whether anything else was going on."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.asked = 0
        self.alone: list[bool] = []
        self.lanes: list = []

    def __call__(self):
        self.asked += 1
        if not self.left:
            return None
        self.left -= 1
        return lambda: self.alone.append(all(lane.idle for lane in self.lanes))


@pytest.mark.parametrize("workers", [1, 3])
def test_idle_workers_do_spare_work_one_at_a_time(workers: int) -> None:
    spare = Spare(5)
    scheduler = Scheduler(workers, spare)
    scheduler.start()
    wait_until(lambda: len(spare.alone) == 5)
    wait_until(lambda: spare.asked == 6)
    assert scheduler.stop(5.0)
    assert spare.asked == 6, "who was told that there is none does not ask again before something was done"


def test_no_spare_work_while_any_item_is_processed() -> None:
    spare, gate, seen = Spare(0), Gate(), list[int]()
    scheduler = Scheduler(2, spare)
    held, other = (scheduler.lane(process, policy=Policy.ALL, capacity=100) for process in (gate, seen.append))
    spare.lanes = [held, other]
    gate.open.clear()
    scheduler.submit(held, 0)
    scheduler.start()
    wait_until(lambda: gate.inside == 1)
    spare.left, before = 1, spare.asked
    for item in range(50):
        scheduler.submit(other, item)
    wait_until(lambda: len(seen) == 50 and other.idle)
    assert (spare.asked, spare.alone) == (before, [])
    gate.open.set()
    wait_until(lambda: spare.alone == [True])
    assert scheduler.stop(5.0)


def test_what_waits_comes_before_spare_work() -> None:
    order: list[str] = []
    scheduler = Scheduler(1, lambda: None if "spare" in order else lambda: order.append("spare"))
    lane = scheduler.lane(order.append, policy=Policy.ALL, capacity=10)
    for _ in range(5):
        scheduler.submit(lane, "item")
    scheduler.start()
    wait_until(lambda: len(order) == 6)
    assert order == ["item"] * 5 + ["spare"]
    assert scheduler.stop(5.0)


def test_spare_work_that_raises_stops_nobody(caplog) -> None:
    broken = [lambda: 1 / 0]
    scheduler, seen = Scheduler(1, lambda: broken.pop() if broken else None), list[int]()
    scheduler.start()
    wait_until(lambda: "spare work raised" in caplog.text)
    scheduler.submit(scheduler.lane(seen.append, policy=Policy.ALL, capacity=1), 7)
    wait_until(lambda: seen == [7])
    assert scheduler.stop(5.0)


def test_drop_newest_keeps_what_waits_and_counts(scheduler: Scheduler) -> None:
    gate = Gate()
    gate.open.clear()
    lane = scheduler.lane(gate, policy=Policy.DROP_NEWEST, capacity=2)
    scheduler.submit(lane, 0)
    wait_until(lambda: gate.inside == 1)
    assert [scheduler.submit(lane, item) for item in range(1, 6)] == [(True, [])] * 2 + [(False, [])] * 3
    assert lane.dropped == 3
    gate.open.set()
    wait_until(lambda: gate.seen == [0, 1, 2])


def test_turns_go_by_the_time_that_items_take() -> None:
    """Nine cheap items for each dear one, as a clock that the items themselves move says."""
    now = [0.0]
    order: list[str] = []

    def costing(name: str, seconds: float):
        def process(item: int) -> None:
            order.append(name)
            now[0] += seconds

        return process

    scheduler = Scheduler(1, clock=lambda: now[0])
    dear = scheduler.lane(costing("dear", 0.09), policy=Policy.ALL, capacity=100)
    cheap = scheduler.lane(costing("cheap", 0.01), policy=Policy.ALL, capacity=200)
    for item in range(20):
        scheduler.submit(dear, item)
    for item in range(200):
        scheduler.submit(cheap, item)
    scheduler.start()
    wait_until(lambda: len(order) == 220)
    assert scheduler.stop(5.0)
    contested = order[:100]
    assert 9 <= contested.count("dear") <= 12
    assert (dear.items, dear.cost_s) == (20, pytest.approx(0.09))


def test_what_comes_for_a_quiet_lane_is_next() -> None:
    order: list[str] = []
    gate = Gate()
    scheduler = Scheduler(1)
    floods = [scheduler.lane(lambda item: order.append("flood"), policy=Policy.ALL, capacity=10) for _ in range(5)]
    held = scheduler.lane(gate, policy=Policy.ALL, capacity=1)
    quiet = scheduler.lane(lambda item: order.append("quiet"), policy=Policy.LATEST, capacity=1)
    for lane in floods:
        lane.credit_s = -1.0
        scheduler._turns._round[lane] = None  # as if each had had a second more than its part
        for item in range(5):
            scheduler.submit(lane, item)
    gate.open.clear()
    scheduler.submit(held, 0)
    scheduler.start()
    wait_until(lambda: gate.inside == 1)
    scheduler.submit(quiet, 0)
    gate.open.set()
    wait_until(lambda: len(order) == 26)
    assert order[0] == "quiet"
    assert scheduler.stop(5.0)


class Batches:
    """A group's process that notes what came together."""

    def __init__(self, limit: int, parts: list[float] | None = None) -> None:
        self.seen: list[list[int]] = []
        self.parts = parts
        self.group: Group[int] = Group("model", limit, self)

    def __call__(self, items) -> list[float]:
        self.seen.append(sorted(items))
        return [1.0] * len(items) if self.parts is None else self.parts


def grouped(scheduler: Scheduler, batches: Batches, count: int) -> tuple[list, list[int]]:
    """Lanes of a group with an item each, held until the workers start; and what was processed alone."""
    alone: list[int] = []
    lanes = [scheduler.lane(alone.append, policy=Policy.LATEST, capacity=1) for _ in range(count)]
    for number, lane in enumerate(lanes):
        lane.group = batches.group
        scheduler.submit(lane, number)
    return lanes, alone


def test_what_waits_in_a_group_goes_together_up_to_its_limit() -> None:
    scheduler, batches = Scheduler(1), Batches(3)
    lanes, alone = grouped(scheduler, batches, 7)
    scheduler.start()
    wait_until(lambda: all(lane.idle for lane in lanes))
    assert batches.seen == [[0, 1, 2], [3, 4, 5]]
    assert alone == [6]
    assert scheduler.stop(5.0)


def test_a_group_leaves_work_for_the_other_workers() -> None:
    scheduler, batches = Scheduler(4), Batches(8)
    lanes, alone = grouped(scheduler, batches, 4)
    scheduler.start()
    wait_until(lambda: all(lane.idle for lane in lanes))
    assert (batches.seen, sorted(alone)) == ([], [0, 1, 2, 3]), "a worker for each"
    assert scheduler.stop(5.0)


def test_lanes_of_other_groups_and_of_none_do_not_ride_along() -> None:
    scheduler, ours, theirs = Scheduler(1), Batches(8), Batches(8)
    lanes, _ = grouped(scheduler, ours, 2)
    theirs.group = Group("other", 8, theirs)
    more, _ = grouped(scheduler, theirs, 2)
    seen: list[int] = []
    single = scheduler.lane(seen.append, policy=Policy.ALL, capacity=1)
    scheduler.submit(single, 9)
    scheduler.start()
    wait_until(lambda: all(lane.idle for lane in (*lanes, *more, single)))
    assert (ours.seen, theirs.seen, seen) == ([[0, 1]], [[0, 1]], [9])
    assert scheduler.stop(5.0)


def test_each_lane_of_a_group_pays_its_part() -> None:
    now = iter(range(100))
    scheduler, batches = Scheduler(1, clock=lambda: next(now)), Batches(2, [3.0, 1.0])
    lanes, _ = grouped(scheduler, batches, 2)
    scheduler.start()
    wait_until(lambda: all(lane.items for lane in lanes))
    assert [lane.cost_s for lane in lanes] == [0.75, 0.25]
    assert scheduler.stop(5.0)


@pytest.mark.parametrize("parts", [[], [1.0], [0.0, 0.0]])
def test_a_group_that_tells_nothing_useful_is_split_evenly(parts: list[float], caplog) -> None:
    now = iter(range(100))
    scheduler, batches = Scheduler(1, clock=lambda: next(now)), Batches(2, parts)
    lanes, _ = grouped(scheduler, batches, 2)
    scheduler.start()
    wait_until(lambda: all(lane.items for lane in lanes))
    assert [lane.cost_s for lane in lanes] == [0.5, 0.5]
    assert ("expected 2 parts" in caplog.text) == (len(parts) != 2)
    assert scheduler.stop(5.0)


def test_a_closed_lane_lets_go_of_its_connection(scheduler: Scheduler) -> None:
    owner = Big()
    watched = weakref.ref(owner)
    lane = scheduler.lane(print, policy=Policy.ALL, capacity=1, taken=lambda owner=owner: None)
    del owner
    scheduler.clear(lane, close=True)
    wait_until(lambda: watched() is None)


def test_busy_time_is_that_of_all_workers(scheduler: Scheduler) -> None:
    gate, spent = Gate(), []
    assert scheduler.busy_s == 0

    def process(item: int) -> None:
        begun = time.perf_counter()
        gate(item)
        spent.append(time.perf_counter() - begun)

    gate.open.clear()
    lanes = [scheduler.lane(process, policy=Policy.ALL, capacity=9) for _ in range(2)]
    for lane in lanes:
        scheduler.submit(lane, 1)
    wait_until(lambda: gate.inside == 2)
    gate.open.set()
    wait_until(lambda: all(lane.idle for lane in lanes))
    wait_until(lambda: scheduler.busy_s >= sum(spent) > 0)
