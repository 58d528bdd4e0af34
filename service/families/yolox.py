"""YOLOX (Ge et al., 2021, arXiv:2107.08430): anchor-free, objectness and classes, strides 8, 16 and 32."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from service.families.base import (
    Detections,
    FamilyError,
    FloatArray,
    Level,
    Outputs,
    Size,
    SpatialFamily,
    corners,
    exp,
    gather,
)

if TYPE_CHECKING:
    from service.model_spec import ModelSpec


class YoloX(SpatialFamily):
    """Heads 1 x (4 + 1 + classes) x h x w: x, y, log w, log h in strides, then probabilities."""

    name: ClassVar[str] = "yolox"

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes with objectness * best class > spec.min_confidence, in plan pixels, before NMS."""
        parts = [self._level(level, spec.min_confidence) for level in self.levels(outputs, size)]
        return gather(parts)

    def _level(self, level: Level, threshold: float) -> Detections:
        if len(level.heads) != 1 or level.heads[0].channels < 6:
            found = [head.channels for head in level.heads]
            raise FamilyError(f"yolox: expected one head of 5 + classes channels per stride, got {found}")
        flat: FloatArray = level.heads[0].flat()
        index = np.flatnonzero(flat[4] > threshold)  # a class probability cannot raise the product
        score = flat[4, index] * flat[5:, index].max(axis=0)
        index, score = index[score > threshold], score[score > threshold]
        column, row = level.cells(index)
        stride = np.float32(level.stride)
        x, y, log_w, log_h = flat[:4, index]
        xyxy = corners((x + column) * stride, (y + row) * stride, exp(log_w) * stride, exp(log_h) * stride)
        return Detections(xyxy, score, flat[5:, index].argmax(axis=0).astype(np.int32))
