"""Frames of several streams of one plan, through its steps together: weights are fetched once for all of them.

The steps are cut into stretches whose weights stay in a core's cache; all frames go through one stretch, then through
the next. What a session computes is what it computes alone, bit for bit: only the order between sessions differs.

Frames that are recomputed whole run by themselves, at once. Their weights cost nothing beside the work that they are
for, and where maps are kept as float16 their steps hand numbers to each other in the thread's own space.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from cache.change import Frame
from cache.opening import Tiles
from cache.plan import Plan
from cache.session import Begun, FrameResult, Session
from cache.state import workspace
from cache.team import helpers
from kernels.frame import run_together

Outcome = FrameResult | Exception


def push_together(
    sessions: Sequence[Session],
    frames: Sequence[Frame],
    at_s: Sequence[float | None] | None = None,
    within: Sequence[Tiles | None] | None = None,
) -> list[Outcome]:
    """Run one frame of each of several sessions, as `Session.push` does one after the other, to the last bit.

    sessions : different ones of one plan, held by the calling thread. frames, at_s, within : as `Session.push` takes
    them, one for each. At most `plan.together` partial frames go through the steps together. Returns what each session
    gave: its result, or the error that `push` would have raised, which says nothing of the others. A result's
    `infer_ns` is an equal share of what frames took together. Raises ValueError for sessions that are of several plans
    or given twice, and for another number of frames than of sessions.
    """
    times = tuple(repeat(None, len(sessions))) if at_s is None else tuple(at_s)
    hints = tuple(repeat(None, len(sessions))) if within is None else tuple(within)
    if not len(sessions) == len(frames) == len(times) == len(hints):
        found = f"{len(frames)}, {len(times)} and {len(hints)}"
        raise ValueError(f"expected a frame, a time and a hint for each of {len(sessions)} sessions, got {found}")
    if len({id(session) for session in sessions}) < len(sessions):
        raise ValueError("expected different sessions, got one twice")
    if len({id(session.plan) for session in sessions}) > 1:
        raise ValueError("expected sessions of one plan, got several")
    if not sessions:
        return []
    batch = _Batch(sessions[0].plan)
    for session, frame, at, hint in zip(sessions, frames, times, hints, strict=True):
        batch.add(session, frame, at, hint)
    batch.run()
    return [batch.outcomes[id(session)] for session in sessions]


class _Batch:
    """Frames under way. outcomes : by the id of the session."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._waiting: list[tuple[Session, Begun, int, int]] = []  # address of the record, nanoseconds so far
        self.outcomes: dict[int, Outcome] = {}

    def add(self, session: Session, frame: Frame, at_s: float | None, within: Tiles | None) -> None:
        """Take a frame in; partial ones wait for others, all else is done at once."""
        key, plan = id(session), self._plan
        try:
            if plan.together == 1:
                self.outcomes[key] = session.push(frame, at_s, within)
                return
            begun = session.begin(frame, at_s, within)
            if begun.decision != "partial":
                self.outcomes[key] = session.run(begun)
                return
            packed = workspace().packed(plan.needs, plan.together)[len(self._waiting)]
            address = session.begin_steps(packed, int(plan.stretches[0]))
        except Exception as error:  # whatever it is, it is told of this session alone
            self.outcomes[key] = error
            return
        self._waiting.append((session, begun, address, time.perf_counter_ns() - begun.compared_ns))
        if len(self._waiting) == plan.together:
            self.run()

    def run(self) -> None:
        """Run the steps of the frames that wait, and finish them."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        start = time.perf_counter_ns()
        try:
            with helpers(1):
                run_together(np.array([address for _, _, address, _ in waiting], np.int64), self._plan.stretches)
        except Exception as error:  # none of them is whole
            self.outcomes |= {id(session): error for session, *_ in waiting}
            return
        share = (time.perf_counter_ns() - start) // len(waiting)
        for session, begun, _, taken_ns in waiting:
            begins = time.perf_counter_ns()
            try:
                session.end_steps()
                self.outcomes[id(session)] = session.finish(begun, taken_ns + share + time.perf_counter_ns() - begins)
            except Exception as error:
                self.outcomes[id(session)] = error
