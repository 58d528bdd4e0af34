"""Threads that help with one frame: a stream alone gets the cores, many streams get one each.

The helpers belong to the process and wait without using a core. A frame that begins while no other is under way may
take them; they join when the operating system lets them, take parts of steps until the frame is done
(`kernels.program`), and are never waited for before they have taken one. So a frame cannot hang on a helper that was
not scheduled, and nothing has to be set up for the number of streams.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from cache.steps import Words
from kernels.program import WAITING, close, help_out, next_ticket

Task = tuple[Words, Words]
"""jobs and ticket of a frame (see `kernels.program`)."""


class _Crew:
    """The process's helpers, and how many frames are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._taken = False
        self._queues: list[SimpleQueue[Task]] = []

    def enter(self, threads: int) -> int:
        """Begin a frame; returns the workers it gets, itself included."""
        with self._lock:
            self._running += 1
            if threads == 1 or self._running > 1 or self._taken:
                return 1
            self._taken = True
            while len(self._queues) < threads - 1:
                queue: SimpleQueue[Task] = SimpleQueue()
                worker = len(self._queues) + 1
                threading.Thread(target=_serve, args=(queue, worker), name=f"helper-{worker}", daemon=True).start()
                self._queues.append(queue)
            return threads

    def call(self, workers: int, task: Task) -> None:
        """Ask the helpers to join a frame."""
        for queue in self._queues[: workers - 1]:
            queue.put(task)

    def leave(self, workers: int) -> None:
        """End a frame."""
        with self._lock:
            self._running -= 1
            self._taken = self._taken and workers == 1


def _serve(queue: SimpleQueue[Task], worker: int) -> None:
    while True:
        jobs, ticket = queue.get()
        help_out(jobs.ctypes.data, ticket.ctypes.data, worker)
        del jobs, ticket  # a stream that is gone must not be held until the next frame


_crew = _Crew()


class Team:
    """Who computes a frame. workers : threads, the caller's included."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def begin(self, jobs: Words, ticket: Words) -> None:
        """Open the frame to the helpers; they come when they can."""
        if self.workers > 1:
            ticket[0] = next_ticket(int(ticket[0]), 0, WAITING)
            _crew.call(self.workers, (jobs, ticket))

    def end(self, ticket: Words) -> None:
        """Send the helpers away: the frame is done."""
        if self.workers > 1:
            close(ticket)


@contextmanager
def helpers(threads: int) -> Iterator[Team]:
    """Begin a frame that may use `threads` threads; it gets one where another frame is under way."""
    workers = _crew.enter(threads)
    try:
        yield Team(workers)
    finally:
        _crew.leave(workers)
