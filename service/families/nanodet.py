"""NanoDet (RangiLyu, v1): class scores and, per box side, a distribution over distances (GFL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from service.families.base import (
    Detections,
    FamilyError,
    HeadTensor,
    Level,
    Outputs,
    Size,
    SpatialFamily,
    gather,
    softmax,
)

if TYPE_CHECKING:
    from service.model_spec import ModelSpec

_USUAL_DISTANCES = 32  # 4 sides, 8 bins each


class NanoDet(SpatialFamily):
    """Per stride: class scores 1 x classes x h x w and distributions 1 x (4 * bins) x h x w.

    A side lies at the expectation of softmax(bins) strides from the centre (g + 0.5) * stride - 0.5.
    """

    name: ClassVar[str] = "nanodet"

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes with best class > spec.min_confidence, in plan pixels, before NMS."""
        return gather([self._level(level, spec) for level in self.levels(outputs, size)])

    def _level(self, level: Level, spec: ModelSpec) -> Detections:
        scores, distances = _tell_apart(level, len(spec.labels))
        probability = scores.probabilities()
        best = probability.max(axis=0)
        index = np.flatnonzero(best > spec.min_confidence)
        bins = softmax(distances.flat()[:, index].reshape(4, distances.channels // 4, index.size), axis=1)
        steps = np.arange(bins.shape[1], dtype=np.float32)
        stride = np.float32(level.stride)
        left, top, right, bottom = np.einsum("sbn,b->sn", bins, steps) * stride
        column, row = level.cells(index)
        x, y = ((cell + np.float32(0.5)) * stride - np.float32(0.5) for cell in (column, row))
        xyxy = np.stack([x - left, y - top, x + right, y + bottom], axis=1).astype(np.float32)
        return Detections(xyxy, best[index], probability[:, index].argmax(axis=0).astype(np.int32))


def _tell_apart(level: Level, classes: int) -> tuple[HeadTensor, HeadTensor]:
    """Scores and distributions of one stride, told apart by their channels; scores first where both fit."""
    if len(level.heads) == 2:
        one, two = level.heads
        for scores, distances in ((one, two), (two, one)):
            if scores.channels == classes and distances.channels % 4 == 0:
                return scores, distances
        for scores, distances in ((one, two), (two, one)):
            if distances.channels == _USUAL_DISTANCES:
                return scores, distances
    expected = f"{classes} and 4 * bins" if classes else "classes (state the labels) and 4 * bins"
    found = [head.channels for head in level.heads]
    raise FamilyError(f"nanodet: expected heads of {expected} channels per stride, got {found}")
