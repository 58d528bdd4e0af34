"""Worker threads over bounded lanes: one lane per stream, one worker at a time in a lane, fair turns between lanes.

Knows nothing of frames, models or sockets: an item goes in, and is processed, or dropped and counted. Whose turn it is
follows from the workers' time that lanes had (`service.turns`). Items of lanes of one group may be processed together.
While nothing waits and nothing is processed, one worker at a time does what `spare` gives it.

Bounds: a lane holds at most its capacity of items (with policy `latest` two), the scheduler as many as there are lanes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from clients.wire import Policy
from service.turns import Share, Turns

log = logging.getLogger("afterimage.scheduler")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Group(Generic[ItemT]):
    """Lanes whose items may be processed together, because that takes less time than one after the other.

    key : equal in lanes of one group. limit : items at most.
    process_together : called in a worker thread with one item each of some lanes; returns each item's part of the time
    taken, in any unit; must not raise.
    """

    key: Hashable
    limit: int
    process_together: Callable[[Sequence[ItemT]], Sequence[float]]


class Lane(Share, Generic[ItemT]):
    """A bounded queue whose items are processed one at a time. Made by `Scheduler.lane`.

    process : called in a worker thread; must not raise. group : may be changed at any time; None: by itself.
    """

    def __init__(
        self,
        process: Callable[[ItemT], None],
        policy: Policy,
        capacity: int,
        taken: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self.process = process
        self.policy = policy
        self.capacity = capacity
        self.taken = taken
        self.group: Group[ItemT] | None = None
        self.dropped = 0
        self.pending: deque[ItemT] = deque()
        self.assured = False  # a worker is about to take the first item that waits: nothing replaces it any more
        self.closed = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being processed."""
        return not self.pending and not self.running


_Taken = list[tuple[Lane[Any], Any]]
"""Lanes, and an item of each."""


class Scheduler:
    """Worker threads that take items of lanes in fair turns.

    spare : gives work for a moment in which all workers are idle, or None. It is asked, in a worker's thread, when one
    becomes idle and after each such work; must not block. Its work should be short: where there is one worker, an item
    that comes meanwhile waits for it.
    clock : seconds, by which the cost of items is measured.
    """

    def __init__(
        self,
        workers: int,
        spare: Callable[[], Callable[[], None] | None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if workers < 1:
            raise ValueError(f"expected at least 1 worker, got {workers}")
        self._turns: Turns[Lane[Any]] = Turns()
        self._condition = threading.Condition()
        self._spare = spare
        self._clock = clock
        self._stopping = False
        self._waiting = 0
        self._busy_ns: dict[int, int] = {}  # by thread, each of which writes its own
        self._threads = [
            threading.Thread(target=self._work, name=f"afterimage-worker-{index}", daemon=True)
            for index in range(workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop after the items being processed, forget what waits; whether all threads ended in time."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def lane(
        self,
        process: Callable[[ItemT], None],
        *,
        policy: Policy,
        capacity: int,
        taken: Callable[[], None] | None = None,
    ) -> Lane[ItemT]:
        """A new lane. `taken` is called in a worker thread whenever an item leaves the queue."""
        if capacity < 1:
            raise ValueError(f"expected a capacity of at least 1, got {capacity}")
        return Lane(process, policy, capacity, taken)

    def submit(self, lane: Lane[ItemT], item: ItemT) -> tuple[bool, list[ItemT]]:
        """Queue an item; never blocks.

        Returns whether it was taken, and the items that it replaced. Policy `latest` keeps only the newest, and
        the one that is taken at this moment, and always takes; `all` and `drop_newest` refuse when the lane is full,
        and `drop_newest` counts it. A closed lane refuses.
        """
        with self._condition:
            if lane.closed or self._stopping:
                return False, []
            replaced: list[ItemT] = []
            if lane.policy is Policy.LATEST:
                replaced = list(lane.pending)[1 if lane.assured else 0 :]
                for _ in replaced:
                    lane.pending.pop()
                lane.dropped += len(replaced)
            elif len(lane.pending) >= lane.capacity:
                lane.dropped += lane.policy is Policy.DROP_NEWEST
                return False, []
            lane.pending.append(item)
            if not lane.waiting and not lane.running:
                lane.assured = self._waiting > self._turns.waiting
                self._turns.wait(lane)
                self._condition.notify()
            return True, replaced

    def answered(self, lane: Lane[ItemT]) -> None:
        """The item being processed is done, and its answer about to go out.

        Called by a lane's process before whoever waits for the answer can know of it: what they send next must not
        replace the item that waits, only because the worker has not come back yet to take it.
        """
        with self._condition:
            lane.assured = lane.running

    def clear(self, lane: Lane[ItemT], *, close: bool = False) -> list[ItemT]:
        """Take back what waits in a lane; with `close` it takes nothing more."""
        with self._condition:
            waiting = list(lane.pending)
            lane.pending.clear()
            lane.assured = False
            self._turns.leave(lane)
            if close:
                lane.closed, lane.taken, lane.group = True, None, None
            return waiting

    @property
    def busy_s(self) -> float:
        """Time that workers have spent on items and spare work, of all together, without what is under way."""
        return sum(tuple(self._busy_ns.values())) / 1e9

    def _work(self) -> None:
        own = threading.get_ident()
        while (taken := self._take()) is not None:
            begun = time.perf_counter_ns()
            taken()
            self._busy_ns[own] = self._busy_ns.get(own, 0) + time.perf_counter_ns() - begun
            del taken  # or an idle worker would hold the last item, and with it a stream's session

    def _take(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._stopping:
                if (lane := self._turns.take()) is not None:
                    group = lane.group
                    taken = [(one, self._first(one)) for one in self._with_riders(lane, group)]
                    return partial(self._process, taken, group)
                if self._waiting == len(self._threads) - 1 and (work := self._spare()) is not None:
                    return partial(self._do_spare, work)
                self._waiting += 1
                self._condition.wait()
                self._waiting -= 1
        return None

    def _first(self, lane: Lane[Any]) -> object:
        lane.assured = False
        return lane.pending.popleft()

    def _with_riders(self, lane: Lane[Any], group: Group[Any] | None) -> list[Lane[Any]]:
        """A lane and those whose items go with its own: a worker's part of what waits, so that none is left idle."""
        if group is None:
            return [lane]
        part = -(-(self._turns.waiting + 1) // len(self._threads))
        return [lane, *self._turns.riders(min(group.limit, part) - 1, lambda other: _same(group, other.group))]

    def _process(self, taken: _Taken, group: Group[Any] | None) -> None:
        started, parts = self._clock(), [1.0] * len(taken)
        try:
            for lane, _ in taken:
                if (tell := lane.taken) is not None:
                    tell()
            if len(taken) == 1 or group is None:
                lane, item = taken[0]
                lane.process(item)
            else:
                told = list(group.process_together([item for _, item in taken]))
                if len(told) != len(taken):
                    raise ValueError(f"expected {len(taken)} parts of the time, got {len(told)}")
                parts = told
        except Exception:
            log.exception("a lane's process raised; it goes on with the next item")
        self._give_back([lane for lane, _ in taken], self._clock() - started, parts)

    def _do_spare(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("spare work raised; the worker goes on")

    def _give_back(self, lanes: Sequence[Lane[Any]], took_s: float, parts: Sequence[float]) -> None:
        whole = sum(parts)
        shares = [part / whole for part in parts] if whole > 0 else [1 / len(lanes)] * len(lanes)
        with self._condition:
            for lane, share in zip(lanes, shares, strict=True):
                self._turns.done(lane, took_s * share)
            alone = not self._turns.waiting and len(lanes) == 1
            for lane in lanes:
                lane.assured = lane.assured and bool(lane.pending) and alone  # it is taken at once
                if lane.pending and not self._stopping:
                    self._turns.wait(lane)
                    self._condition.notify()


def _same(group: Group[Any], other: Group[Any] | None) -> bool:
    return other is not None and other.key == group.key
