"""The product's own detector: anchor-free, several classes may fire in one cell, each with a box of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from service.families.base import Detections, FamilyError, Level, Outputs, Size, SpatialFamily, gather, sigmoid

if TYPE_CHECKING:
    from service.model_spec import ModelSpec


class Afterimage(SpatialFamily):
    """One head 1 x 5C x h x w per stride for C classes.

    Channel c is the score logit of class c; channels C + 4c to C + 4c + 3 are the distances, in strides, from
    the cell's centre to the left, top, right and bottom of that class's box (below 0 counts as 0).
    """

    name: ClassVar[str] = "afterimage"

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes of each class with score > spec.min_confidence, in plan pixels, before NMS."""
        return gather([self._level(level, spec) for level in self.levels(outputs, size)])

    def _level(self, level: Level, spec: ModelSpec) -> Detections:
        found = [head.channels for head in level.heads]
        classes = len(spec.labels) or found[0] // 5
        if found != [5 * classes]:
            raise FamilyError(
                f"afterimage: expected one head of {5 * classes or '5C'} channels per stride, got {found}"
            )
        flat = level.heads[0].flat()
        score = sigmoid(flat[:classes])
        class_id, index = np.nonzero(score > spec.min_confidence)
        sides = flat[classes:].reshape(classes, 4, -1)[class_id, :, index].T
        left, top, right, bottom = np.maximum(sides, 0)
        column, row = level.cells(index)
        x, y = column + np.float32(0.5), row + np.float32(0.5)
        xyxy = np.stack([x - left, y - top, x + right, y + bottom], axis=1) * np.float32(level.stride)
        return Detections(xyxy.astype(np.float32), score[class_id, index], class_id.astype(np.int32))
