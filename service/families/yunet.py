"""YuNet (Wu, Peng, Yu, 2023): faces with five key points, anchor-free, strides 8, 16 and 32."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from service.families.base import (
    Detections,
    FamilyError,
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


class YuNet(SpatialFamily):
    """Per stride: class and objectness (1 channel each), box (4) and key points (10).

    score = sqrt(class * objectness), so that it does not matter which of the two is which.
    """

    name: ClassVar[str] = "yunet"

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Faces with score > spec.min_confidence and key points [N, 5, 3], in plan pixels, before NMS."""
        return gather([self._level(level, spec.min_confidence) for level in self.levels(outputs, size)])

    def _level(self, level: Level, threshold: float) -> Detections:
        channels = [head.channels for head in level.heads]
        if channels != [1, 1, 4, 10]:
            raise FamilyError(f"yunet: expected heads of 1, 1, 4 and 10 channels per stride, got {channels}")
        one, other, box, points = level.heads
        probability = np.sqrt(one.probabilities()[0] * other.probabilities()[0])
        index = np.flatnonzero(probability > threshold)
        column, row = level.cells(index)
        stride = np.float32(level.stride)
        x, y, log_w, log_h = box.flat()[:, index]
        xyxy = corners((x + column) * stride, (y + row) * stride, exp(log_w) * stride, exp(log_h) * stride)
        place = points.flat()[:, index].reshape(5, 2, index.size)
        keypoints = np.ones((index.size, 5, 3), np.float32)
        keypoints[:, :, 0] = ((place[:, 0] + column) * stride).T
        keypoints[:, :, 1] = ((place[:, 1] + row) * stride).T
        return Detections(xyxy, probability[index], np.zeros(index.size, np.int32), keypoints)
