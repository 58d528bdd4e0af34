"""The error of one audited frame against what its budget allows; the measures are those of a calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.calibration.budget import SLACK, Budget
from service.calibration.damage import FAINT, Damage, Figures, samples
from service.calibration.footage import SMALLEST_SPREAD
from service.evaluate import NOISE_QUALITY
from service.families.base import Detections, Family, Mask, Outputs, Size, boxes_of
from service.model_spec import ModelSpec

Image = NDArray[np.uint8]

LEAST_ROOM = 0.005
"""What a frame without error counts below the budget, where that allows none: else nothing could be made up for."""
WORST_BOXES = 2.0
"""Damage of a frame whose boxes have no partners (`service.calibration.damage.box_damage`)."""
WORST_SHARE = 8.0
"""An error of outputs counts at most as so many times what is allowed: of what has no bound no mean can be promised."""


class Decodes(Protocol):
    """What makes boxes of a model's outputs (`service.opened.OpenedModel`, `service.registry.Model`)."""

    @property
    def family(self) -> Family: ...
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def size(self) -> Size: ...


@dataclass(frozen=True)
class Measured:
    """One frame.

    error, allowed : damage of boxes (0 to 2) where the budget is "noise" and the model gives boxes; 1 - agreement where
    the budget is an agreement; else the error of outputs over the allowed one (0 to `WORST_SHARE`), and 1.
    span : the largest difference of the two.
    """

    error: float
    allowed: float
    span: float

    @property
    def excess(self) -> float:
        """At most 1 (see `cache.audit`)."""
        return (self.error - self.allowed) / self.span

    @property
    def violation(self) -> bool:
        """Whether the frame is above its budget."""
        return self.error > self.allowed


class Measure:
    """Measures frames of one model by one budget."""

    def __init__(self, model: Decodes, budget: Budget) -> None:
        self.budget = budget
        self._model = model
        self._spec = model.spec.model_copy(update={"min_confidence": min(FAINT, model.spec.min_confidence)})

    @property
    def faultless(self) -> float:
        """The largest excess that a frame without any error can have."""
        if self.budget.kind == "agreement":
            return min(self.budget.value - 1, -LEAST_ROOM)
        return -min(SLACK / WORST_BOXES, 1 / (WORST_SHARE - 1))

    @property
    def margin(self) -> float:
        """By how much less than the budget thresholds are to aim at, as an excess."""
        return -self.faultless / 3

    def boxes(self, outputs: Outputs) -> Detections | None:
        """Boxes of outputs, faint ones too; None of a model that gives no boxes."""
        copied = {name: np.array(values) for name, values in outputs.items()}
        result = self._model.family.decode(copied, self._spec, self._model.size)
        return boxes_of(result) if isinstance(result, Detections | Mask) else None

    def noisy(self, frame: Image) -> Image:
        """The frame, uint8[h, w, C] in the model's colours, after the compression that is called noise."""
        flip = slice(None, None, -1 if self._model.spec.colour == "RGB" else 1)
        _, data = cv2.imencode(
            ".jpg", np.ascontiguousarray(frame[:, :, flip]), [cv2.IMWRITE_JPEG_QUALITY, NOISE_QUALITY]
        )
        decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if frame.shape[2] == 1 else cv2.IMREAD_COLOR)
        return np.ascontiguousarray(np.asarray(decoded, np.uint8).reshape(frame.shape)[:, :, flip])


class Look:
    """One audit under way: first the dense outputs come, then, if they are asked for, those of the noisy frame.

    found : outputs of the stream; copied here, as they change with its next frame.
    """

    def __init__(self, measure: Measure, found: Outputs) -> None:
        self.measured: Measured | None = None
        """The result; None before, and of a frame that says nothing: without a box on either side, or not finite."""
        self._measure = measure
        self._found = {name: np.array(values) for name, values in found.items()}
        self._truth: Detections | None = None
        self._expected: Mapping[str, NDArray[np.float32]] = {}
        self._seen: Figures | None = None

    def dense(self, outputs: Outputs) -> bool:
        """Take the dense outputs of the same frame; whether `noise` is to be called too."""
        budget = self._measure.budget
        self._truth, self._expected = self._measure.boxes(outputs), samples(outputs)
        self._seen = seen = self._figures(self._found)
        if budget.kind == "agreement":
            if seen.iou50 is not None:
                self.measured = Measured(1 - seen.iou50, 1 - budget.value, 1.0)
            return False
        if not math.isfinite(seen.error):
            return False
        if budget.kind == "error":
            self.measured = _share(seen.error, budget.value)
            return False
        return self._truth is None or seen.boxes is not None

    def noise(self, outputs: Outputs) -> None:
        """Take the dense outputs of the noisy frame."""
        if self._seen is None:
            raise ValueError("expected the dense outputs first")
        noise = self._figures(outputs)
        if not math.isfinite(noise.error):
            return
        if self._truth is None:
            self.measured = _share(self._seen.error, noise.error)
        else:
            self.measured = Measured(self._seen.boxes or 0.0, (noise.boxes or 0.0) + SLACK, WORST_BOXES)

    def _figures(self, outputs: Mapping[str, NDArray[Any]]) -> Figures:
        """How far outputs stray from the dense ones on this frame."""
        spreads = {name: max(float(np.var(values)), SMALLEST_SPREAD) for name, values in self._expected.items()}
        damage = Damage(spreads)
        boxes = self._measure.boxes(outputs) or Detections.empty()
        damage.add(boxes, self._truth or Detections.empty(), outputs, self._expected)
        return damage.figures()


def _share(error: float, allowed: float) -> Measured:
    """An error of outputs in units of what is allowed."""
    share = error / allowed if allowed > 0 else WORST_SHARE if error > 0 else 0.0
    return Measured(min(share, WORST_SHARE), 1.0, WORST_SHARE - 1)
