"""How far an incremental run strays from the dense one: boxes that move, and outputs that differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.agreement import Agreement
from service.families.base import Detections
from service.nms import iou_matrix

SAMPLES = 1 << 15
"""Values of an output that are compared, evenly spread."""
FAINT, COUNTED = 0.05, 0.1
"""Scores from which boxes are decoded, and from which they count: faint ones tell of damage before strong ones go."""


@dataclass(frozen=True)
class Figures:
    """What a run over some clips gave.

    fraction : work left, of frames after the first. boxes : mean over the boxes of both sides, weighted by score, of
    (1 - IoU) + |difference of score| with the best partner, 0 to 2; None without any. error : mean square of the
    difference of outputs over their variance. iou50, iou75 : agreement (`service.agreement`); None without strong ones.
    """

    fraction: float
    boxes: float | None
    error: float
    iou50: float | None
    iou75: float | None


def samples(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """At most `SAMPLES` values of each output that holds floats, always the same ones."""
    taken = {}
    for name, values in outputs.items():
        if np.issubdtype(values.dtype, np.floating) and values.size:
            taken[name] = values.reshape(-1)[:: -(-values.size // SAMPLES)].astype(np.float32)
    return taken


def box_damage(one: Detections, other: Detections) -> tuple[float, float]:
    """Sum over the boxes of both sides of score times (1 - IoU) + |difference of score|; and the sum of scores.

    A box without a partner of its class counts 2.
    """
    total, weight = 0.0, 0.0
    for side, partners in ((one, other), (other, one)):
        boxes = side.select(side.score > COUNTED)
        weight += float(boxes.score.sum())
        if not len(partners):
            total += 2.0 * float(boxes.score.sum())
        elif len(boxes):
            overlap = iou_matrix(boxes.xyxy, partners.xyxy)
            overlap = overlap * (boxes.class_id[:, None] == partners.class_id[None, :])
            best = overlap.argmax(axis=1)
            iou = overlap[np.arange(len(boxes)), best]
            gap = np.abs(boxes.score - partners.score[best])
            total += float((np.where(iou > 0, 1 - iou + gap, 2.0) * boxes.score).sum())
    return total, weight


@dataclass
class Damage:
    """Collects frame by frame. spreads : variance of each output's samples over the dense run."""

    spreads: Mapping[str, float]
    _boxes: float = 0.0
    _weight: float = 0.0
    _errors: list[float] = field(default_factory=list)
    _fractions: list[float] = field(default_factory=list)
    _agreement: Agreement = field(default_factory=Agreement)

    def add(
        self, found: Detections, truth: Detections, outputs: Mapping[str, NDArray[Any]],
        expected: Mapping[str, NDArray[np.float32]], fraction: float | None = None,
    ) -> None:  # fmt: skip
        """Count one frame. fraction : None for a clip's first frame, which is always dense."""
        total, weight = box_damage(found, truth)
        self._boxes += total
        self._weight += weight
        self._agreement.add(found, truth)
        taken = samples(outputs)
        errors = [
            float(np.mean(np.square(taken[name].astype(np.float64) - values))) / self.spreads[name]
            for name, values in expected.items()
        ]
        self._errors.append(float(np.mean(errors)) if errors else 0.0)
        if fraction is not None:
            self._fractions.append(fraction)

    def figures(self) -> Figures:
        """The means."""
        agreed = self._agreement.figures() or {}
        return Figures(
            float(np.mean(self._fractions)) if self._fractions else 1.0,
            self._boxes / self._weight if self._weight else None,
            float(np.mean(self._errors)) if self._errors else 0.0, agreed.get("iou50"), agreed.get("iou75"),
        )  # fmt: skip
