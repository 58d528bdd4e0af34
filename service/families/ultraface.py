"""UltraFace (Linzaer, Ultra-Light-Fast-Generic-Face-Detector-1MB): an SSD with square priors."""

from __future__ import annotations

from functools import lru_cache
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
    sigmoid,
)

if TYPE_CHECKING:
    from service.model_spec import ModelSpec

_MIN_BOXES = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
"""Stride in pixels to the sides of its square priors in pixels."""
_CENTRE_VARIANCE = np.float32(0.1)
_SIZE_VARIANCE = np.float32(0.2)


@lru_cache(maxsize=64)
def priors(stride: int, size: Size) -> FloatArray:
    """Priors of one stride, float32[h * w * boxes, 4] of cx, cy, w, h in pixels; read-only.

    As in the original, a feature map has ceil(side / stride) cells that divide the image evenly (so that the
    pitch is below the stride where the side is no multiple of it), and priors are clipped to the image.
    """
    width, height = size
    rows, columns = -(-height // stride), -(-width // stride)
    row, column, side = np.meshgrid(np.arange(rows), np.arange(columns), _MIN_BOXES[stride], indexing="ij")
    cx, cy = (column + 0.5) * (width / columns), (row + 0.5) * (height / rows)
    table = np.stack([cx, cy, side, side], axis=-1).reshape(-1, 4)
    table = np.minimum(table, np.asarray([width, height, width, height])).astype(np.float32)
    result: FloatArray = table
    result.setflags(write=False)
    return result


class UltraFace(SpatialFamily):
    """Per stride: scores 1 x (2 * boxes) x h x w (background, face) and offsets 1 x (4 * boxes) x h x w."""

    name: ClassVar[str] = "ultraface"
    stride: int | None = 16

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Faces with score > spec.min_confidence, in plan pixels, before NMS."""
        return gather([self._level(level, spec.min_confidence, size) for level in self.levels(outputs, size)])

    def _level(self, level: Level, threshold: float, size: Size) -> Detections:
        stride = _stride(level, size)
        boxes = len(_MIN_BOXES[stride])
        channels = [head.channels for head in level.heads]
        if channels != [2 * boxes, 4 * boxes]:
            expected = f"{2 * boxes} and {4 * boxes} channels at stride {stride}"
            raise FamilyError(f"ultraface: expected heads of {expected}, got {channels}")
        scores, offsets = level.heads
        pairs = scores.flat().reshape(boxes, 2, -1)
        face = sigmoid(pairs[:, 1] - pairs[:, 0]) if "Softmax" in scores.post else pairs[:, 1]
        by_prior = np.ascontiguousarray(face.T).reshape(-1)  # cell by cell, the priors of a cell together
        index = np.flatnonzero(by_prior > threshold)
        cell, box = np.divmod(index, boxes)
        x, y, w, h = offsets.flat().reshape(boxes, 4, -1)[box, :, cell].T
        cx, cy, side_w, side_h = priors(stride, size)[index].T
        xyxy = corners(
            x * _CENTRE_VARIANCE * side_w + cx,
            y * _CENTRE_VARIANCE * side_h + cy,
            exp(w * _SIZE_VARIANCE) * side_w,
            exp(h * _SIZE_VARIANCE) * side_h,
        )
        return Detections(xyxy, by_prior[index], np.zeros(index.size, np.int32))


def _stride(level: Level, size: Size) -> int:
    for stride in _MIN_BOXES:
        if (-(-size[0] // stride), -(-size[1] // stride)) == (level.width, level.height):
            return stride
    raise FamilyError(
        f"ultraface: expected maps at strides 8, 16, 32 and 64 of {size[0]}x{size[1]}, got {level.width}x{level.height}"
    )
