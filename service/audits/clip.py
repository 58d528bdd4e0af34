"""A rehearsal on a clip: what audits find and make of the thresholds, where every dense frame is there anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.session import Session
from service.audits.measure import Look, Measure
from service.audits.stream import StreamAudits, rounded
from service.families.base import Outputs

Image = NDArray[np.uint8]

DRAWN = 1 / 4
"""Of the frames; a server looks at fewer."""
SEED = 0


class ClipAudits:
    """A second stream of the same frames, whose thresholds follow its audits. Deterministic.

    session : of the stream; nobody else's.
    """

    def __init__(self, session: Session, measure: Measure, confidence: float = 0.95) -> None:
        self._session = session
        self._measure = measure
        self._rng = np.random.default_rng(SEED)
        self._look: Look | None = None
        self._fractions: list[float] = []
        self._audits = StreamAudits(measure, self._draw, self._begin, confidence)

    def frame(self, image: Image) -> bool:
        """Compute a frame, uint8[h, w, C] as the session takes it; whether `compare` is to be called with it."""
        self._look = None
        self._audits.before(self._session)
        result = self._session.push(image)
        self._fractions.append(result.compute_fraction)
        self._audits.after(image, result.outputs)
        return self._look is not None

    def compare(self, dense: Outputs, noisy: Outputs) -> None:
        """The dense outputs of the frame, and of what noise makes of it."""
        look, self._look = self._look, None
        if look is None:
            raise ValueError("expected a frame that was drawn first")
        if look.dense(dense):
            look.noise(noisy)
        self._audits.finish(look.measured)

    def report(self) -> dict[str, Any]:
        """What was found, for JSON; null is what no audit was there to say."""
        found = self._audits.report()
        nothing = {
            "audits": 0, "violations": 0, "mean_error": None, "mean_allowed": None, "bound": None,
            "confidence": self._audits.controller.bound.confidence,
        }  # fmt: skip
        fractions = self._fractions[1:] or self._fractions
        return {
            **(nothing if found is None else rounded(found)),
            "factor": round(self._audits.factor, 6),
            "budget": str(self._measure.budget),
            "compute_fraction": float(np.mean(fractions)) if fractions else None,
        }

    def _draw(self, whole: bool) -> bool:
        return bool(self._rng.random() < DRAWN)

    def _begin(self, stream: StreamAudits, outputs: Outputs, frame: Image) -> None:
        self._look = Look(self._measure, outputs)
