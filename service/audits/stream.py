"""The audits of one stream: which frames are looked at, and what its thresholds become. Knows no workers, no clock."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache.audit import Controller
from service.audits.measure import Measure, Measured
from service.families.base import Outputs

Image = NDArray[np.uint8]


class AuditedSession(Protocol):
    """What audits do to a stream's session (`cache.session.Session`)."""

    def reset(self) -> None: ...
    def scale_thresholds(self, factors: float, /) -> None: ...


@dataclass(frozen=True)
class Report:
    """One audit and all before it.

    error, allowed : of its frame, in the unit of `Measured`. violation : whether it was above its budget. age : frames
    computed since.
    audits : frames measured. violations : of those, above their budget. mean_error, mean_allowed : of them.
    bound : with this confidence the mean of error - allowed, over what the stream computes with thresholds, is at most
    this.
    factor : on the plan's thresholds from the next frame on; 0: frames are computed whole.
    """

    error: float
    allowed: float
    violation: bool
    age: int
    audits: int
    violations: int
    mean_error: float
    mean_allowed: float
    bound: float
    confidence: float
    factor: float


class StreamAudits:
    """Asked by a stream's pipeline before and after each frame; told by whoever looks what a look found. Thread-safe.

    draw : whether to look at a frame, given whether it was computed whole on purpose; must not depend on what is in it.
    offer : takes this, the outputs, good until it returns, and the frame; `finish` is to be called once for each.
    told : called with every measured frame.
    """

    def __init__(
        self,
        measure: Measure,
        draw: Callable[[bool], bool],
        offer: Callable[[StreamAudits, Outputs, Image], None],
        confidence: float = 0.95,
        told: Callable[[Measured], None] = lambda measured: None,
    ) -> None:
        self.measure = measure
        self.controller = Controller(confidence, margin=measure.margin)
        self._draw, self._offer, self._told = draw, offer, told
        self._lock = threading.Lock()
        self._factor = 1.0  # that the session has
        self._afresh = False  # what is stored is above its budget: forget it
        self._frames = self._looked = self._seen = 0  # frames; which one is looked at; which one the last look was at
        self._measured = self._violations = 0
        self._error = self._allowed = 0.0
        self._last: Measured | None = None
        self._untold = False

    @property
    def factor(self) -> float:
        """On the stream's thresholds, from its next frame on."""
        return self.controller.factor

    def renew(self) -> None:
        """The stream has a new session, with the plan's own thresholds."""
        with self._lock:
            self._factor = 1.0

    def before(self, session: AuditedSession) -> bool:
        """A frame is about to be computed. Returns whether the session has been reset for it."""
        with self._lock:
            if self.controller.factor != self._factor:
                self._factor = self.controller.factor
                session.scale_thresholds(self._factor)
            anew = self._afresh or self.controller.whole
            if anew:
                session.reset()
            self._afresh = False
            self._frames += 1
            return anew

    def after(self, frame: Image, outputs: Outputs) -> None:
        """It was computed. frame : uint8[h, w, C] as it was pushed. outputs : of the session."""
        with self._lock:
            whole = self.controller.whole
            current = self._factor == self.controller.factor and not self._afresh
            if not current or not self._draw(whole):
                return
            if whole:  # without error, and known to be: such a look costs nothing
                self.controller.add(self.measure.faultless, drawn=False)
                return
            self._looked = self._frames
        self._offer(self, outputs, frame.copy())  # which the stream's next frame may be written over

    def finish(self, measured: Measured | None) -> None:
        """A look is over. measured : None where the frame said nothing, or the look failed."""
        if measured is None or not math.isfinite(measured.excess):
            return
        with self._lock:
            self.controller.add(measured.excess)
            self._afresh = self._afresh or measured.violation
            self._measured += 1
            self._violations += measured.violation
            self._error += measured.error
            self._allowed += measured.allowed
            self._last, self._untold, self._seen = measured, True, self._looked
        self._told(measured)

    def news(self) -> Report | None:
        """The last audit, once."""
        with self._lock:
            untold, self._untold = self._untold, False
            return self._report() if untold else None

    def report(self) -> Report | None:
        """The last audit; None before the first."""
        with self._lock:
            return self._report()

    def _report(self) -> Report | None:
        last, count = self._last, self._measured
        if last is None:
            return None
        bound = self.controller.bound.upper * last.span
        return Report(
            last.error, last.allowed, last.violation, self._frames - self._seen, count, self._violations,
            self._error / count, self._allowed / count, bound, self.controller.bound.confidence, self.controller.factor,
        )  # fmt: skip


def rounded(report: Report) -> dict[str, Any]:
    """A report's figures as they are told, without those of its last frame."""
    return {
        "audits": report.audits, "violations": report.violations, "mean_error": round(report.mean_error, 6),
        "mean_allowed": round(report.mean_allowed, 6), "bound": round(report.bound, 6), "confidence": report.confidence,
        "factor": round(report.factor, 6),
    }  # fmt: skip
