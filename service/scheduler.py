"""Worker threads over bounded lanes: one lane per stream, one worker at a time in a lane, lanes in turn.

Knows nothing of frames, models or sockets: an item goes in, and is processed, or dropped and counted. While nothing
waits and nothing is processed, one worker at a time does what `spare` gives it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from clients.wire import Policy

log = logging.getLogger("afterimage.scheduler")

ItemT = TypeVar("ItemT")


class Lane(Generic[ItemT]):
    """A bounded queue whose items are processed one at a time. Made by `Scheduler.lane`.

    process : called in a worker thread; must not raise
    """

    def __init__(
        self,
        process: Callable[[ItemT], None],
        policy: Policy,
        capacity: int,
        taken: Callable[[], None] | None,
    ) -> None:
        self.process = process
        self.policy = policy
        self.capacity = capacity
        self.taken = taken
        self.dropped = 0
        self.pending: deque[ItemT] = deque()
        self.running = False
        self.assured = False  # a worker is about to take the first item that waits: nothing replaces it any more
        self.queued = False  # in the scheduler's turn, or being processed and to return to it
        self.closed = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being processed."""
        return not self.pending and not self.running


class Scheduler:
    """Worker threads that take one item of each lane in turn.

    spare : gives work for a moment in which all workers are idle, or None. It is asked, in a worker's thread, when one
    becomes idle and after each such work; must not block. Its work should be short: where there is one worker, an item
    that comes meanwhile waits for it.
    """

    def __init__(self, workers: int, spare: Callable[[], Callable[[], None] | None] = lambda: None) -> None:
        if workers < 1:
            raise ValueError(f"expected at least 1 worker, got {workers}")
        self._turn: deque[Lane[object]] = deque()
        self._condition = threading.Condition()
        self._spare = spare
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
            self._turn.clear()
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
        the one that is taken at this moment, and always takes; `all` refuses when the lane is full. A closed lane
        refuses.
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
                return False, []
            lane.pending.append(item)
            if not lane.queued:
                lane.queued, lane.assured = True, self._waiting > len(self._turn)
                self._turn.append(lane)  # type: ignore[arg-type]  # a lane is only handed its own items
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
            lane.closed = lane.closed or close
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

    def _process(self, lane: Lane[object], item: object) -> None:
        try:
            if lane.taken is not None:
                lane.taken()
            lane.process(item)
        except Exception:
            log.exception("a lane's process raised; it goes on with the next item")
        self._give_back(lane)

    def _take(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._stopping:
                while self._turn:
                    lane = self._turn.popleft()
                    if lane.pending:
                        lane.running, lane.assured = True, False
                        return partial(self._process, lane, lane.pending.popleft())
                    lane.queued = False
                if self._waiting == len(self._threads) - 1 and (work := self._spare()) is not None:
                    return partial(self._do_spare, work)
                self._waiting += 1
                self._condition.wait()
                self._waiting -= 1
        return None

    def _do_spare(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("spare work raised; the worker goes on")

    def _give_back(self, lane: Lane[object]) -> None:
        with self._condition:
            lane.running = False
            lane.assured = lane.assured and bool(lane.pending) and not self._turn  # it is taken at once
            if lane.pending and not self._stopping:
                self._turn.append(lane)
                self._condition.notify()
            else:
                lane.queued = False
