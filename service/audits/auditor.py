"""Whose frame is audited when: one look at a time, in the time that workers do not need, at most a share of all time.

A look is two steps, each of one dense frame: the frame itself, and (for the budget "noise") the frame after stronger
compression. `spare` hands out a step at a time to a worker that has nothing else to do, so that what comes in meanwhile
waits for one dense frame at most.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.audits.ledger import Ledger
from service.audits.measure import Look, Measure, Measured
from service.audits.stream import StreamAudits
from service.calibration.budget import Budget
from service.families.base import Outputs
from service.registry import EngineSession, Model

log = logging.getLogger("afterimage.audits")

Image = NDArray[np.uint8]

DRAWN = 1 / 8
"""Of the frames that come while a look can be afforded: which one it is must not follow from when the last look was."""
FIRST_S = 0.1
"""What a look is taken to cost before the first one."""
FADING = 0.9
"""What a look is taken to cost falls by so much with each cheaper one."""
UNUSED_S = 60.0
"""After so long without a look a model's dense session is freed."""
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper ends of the histogram of errors, in the unit of `Measured`."""


@dataclass
class Figures:
    """Counts of one model's audits. errors : by `BUCKETS`, and one for all above."""

    audits: int = 0
    violations: int = 0
    error_sum: float = 0.0
    errors: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def add(self, measured: Measured) -> None:
        """Count one frame."""
        self.audits += 1
        self.violations += measured.violation
        self.error_sum += measured.error
        self.errors[sum(measured.error > end for end in BUCKETS)] += 1


class _ModelAudits:
    """What all streams of a model share: its measure, its counts, and the session that dense frames are computed in."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.measure = Measure(model, Budget.parse(model.budget))
        self.figures = Figures()
        self.cost_s = FIRST_S
        """What a look is taken to cost."""
        self.session: EngineSession | None = None
        self.used = 0.0


@dataclass
class _Job:
    """A look under way. spent_s : so far."""

    stream: StreamAudits
    look: Look
    frame: Image
    shared: _ModelAudits
    spent_s: float = 0.0


_Part = Callable[[_Job], "_Part | None"]


class Auditor:
    """The audits of a process. Thread-safe.

    share : of one core's time, see `Ledger`; 0 turns audits off. confidence : of the bounds that are told.
    clock : seconds. chance : uniform numbers from 0 to 1.
    """

    def __init__(
        self,
        share: float,
        confidence: float,
        clock: Callable[[], float] = time.perf_counter,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.ledger = Ledger(share, clock)
        self._confidence = confidence
        self._clock, self._chance = clock, chance
        self._lock = threading.Lock()
        self._models: dict[str, _ModelAudits] = {}
        self._busy = False  # a look waits or is under way
        self._drawn = 0.0  # when
        self._step: Callable[[], None] | None = None
        self._closed = False

    def stream(self, model: Model) -> StreamAudits | None:
        """Audits for a new stream of a model; None where they are off, or there is nothing to audit."""
        if self.ledger.share == 0 or not model.auditable:
            return None
        with self._lock:
            known = self._models.get(model.name)
            shared = known if known is not None and known.model is model else _ModelAudits(model)
            if known is not None:
                shared.figures = known.figures  # a reloaded model's counts go on
            self._models[model.name] = shared

        def draw(whole: bool) -> bool:
            return self._draws(shared, whole)

        def offer(stream: StreamAudits, outputs: Outputs, frame: Image) -> None:
            self._begin(stream, shared, outputs, frame)

        return StreamAudits(shared.measure, draw, offer, self._confidence, shared.figures.add)

    def spare(self) -> Callable[[], None] | None:
        """What a worker with nothing else to do may do now. Never blocks for long."""
        with self._lock:
            step, self._step = self._step, None
            return None if self._closed else step

    def forget(self, name: str) -> None:
        """A model was unloaded: free what its audits hold."""
        with self._lock:
            self._models.pop(name, None)

    def close(self) -> None:
        """Begin nothing more."""
        with self._lock:
            self._closed = True

    def sweep(self) -> None:
        """Free the sessions of models that were not looked at for long."""
        now = self._clock()
        with self._lock:
            for shared in self._models.values():
                if not self._busy and now - shared.used >= UNUSED_S:
                    shared.session = None

    @property
    def memory_bytes(self) -> int:
        """What the sessions for dense frames hold."""
        with self._lock:
            held = [shared.model.memory for shared in self._models.values() if shared.session is not None]
        return sum(memory.stream for memory in held if memory is not None)

    def figures(self) -> dict[str, Figures]:
        """Counts by model."""
        with self._lock:
            return {name: shared.figures for name, shared in self._models.items()}

    def _draws(self, shared: _ModelAudits, whole: bool) -> bool:
        """Whether to look at a frame that was just computed; if so, nobody else's is until that look is over."""
        if self._chance() >= DRAWN:
            return False
        if whole:
            return True
        with self._lock:
            if self._closed or self._busy or not self.ledger.affords(shared.cost_s):
                return False
            self._busy, self._drawn = True, self._clock()
            return True

    def _begin(self, stream: StreamAudits, shared: _ModelAudits, outputs: Outputs, frame: Image) -> None:
        """Keep what a look needs until a worker has time for it."""
        job = None
        try:
            job = _Job(stream, Look(shared.measure, outputs), frame, shared)
        except Exception:  # the frame is computed already, and an answer
            log.exception("a look at a stream could not begin")
        finally:
            spent = self._clock() - self._drawn
            self.ledger.charge(spent)
            with self._lock:
                self._busy = job is not None
                self._step = None if job is None else lambda: self._run(job, self._dense)

    def _dense(self, job: _Job) -> _Part | None:
        """Compute the frame whole."""
        return self._noise if job.look.dense(self._whole(job, job.frame)) else None

    def _noise(self, job: _Job) -> None:
        """Compute whole what noise makes of it."""
        job.look.noise(self._whole(job, job.shared.measure.noisy(job.frame)))

    def _whole(self, job: _Job, frame: Image) -> Outputs:
        """The outputs of a full recompute, good until the next one."""
        shared = job.shared
        with self._lock:
            shared.used = self._clock()
            session = shared.session
        if session is None:
            session = shared.session = shared.model.open_dense()
        session.reset()
        return session.push(frame).outputs

    def _run(self, job: _Job, part: _Part) -> None:
        """Do a part of a look; then the next part waits, or the look is over."""
        started, following, measured = self._clock(), None, None
        try:
            following = part(job)
            measured = job.look.measured
        except Exception:
            log.exception("an audit of model %s failed; the stream goes on", job.shared.model.name)
        spent = self._clock() - started
        self.ledger.charge(spent)
        job.spent_s += spent
        if following is not None:
            with self._lock:
                self._step = lambda: self._run(job, following)
            return
        if measured is not None and measured.violation:
            self.ledger.charge(spent)  # for the whole frame that the stream is to compute next
        try:
            job.stream.finish(measured)
        finally:
            with self._lock:
                job.shared.cost_s = max(job.spent_s, FADING * job.shared.cost_s)
                self._busy = False
