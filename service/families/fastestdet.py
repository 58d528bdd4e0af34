"""FastestDet (dog-qiuqiu): one grid at stride 16; objectness, a box and class probabilities per cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cache.onnx_import import native_shape
from service.families.base import (
    Detections,
    FamilyError,
    FloatArray,
    Level,
    Outputs,
    Size,
    SpatialFamily,
    corners,
    sigmoid,
    softmax,
)

if TYPE_CHECKING:
    from cache.graph import Graph
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec


class FastestDet(SpatialFamily):
    """One head 1 x (1 + 4 + classes) x h x w, or its three parts where the plan ends before they are joined.

    score = objectness^0.6 * best class^0.4; x = (gx + tanh t1) cells, w = sigmoid(t3) of the image that the
    model was trained on. What it learned is a size in pixels: at another plan size, w is still of the file's
    own size (on a 640x384 plan a person comes out 139 px wide so, as he is, and 253 px as a part of 640).
    """

    name: ClassVar[str] = "fastestdet"

    def __init__(self) -> None:
        super().__init__()
        self._trained: Size | None = None

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """The spatial heads; the file's own input size is remembered as the unit of box sizes."""
        shape = native_shape(model)
        self._trained = None if shape is None else (shape[3], shape[2])
        return super().outputs(model, graph)

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes with score > spec.min_confidence, in plan pixels, before NMS."""
        levels = self.levels(outputs, size)
        if len(levels) != 1:
            sizes = [f"{level.width}x{level.height}" for level in levels]
            raise FamilyError(f"fastestdet: expected heads of one spatial size, got {', '.join(sizes)}")
        objectness, box, classes = _parts(levels[0])
        # The class term is at most 1, so the first factor alone rules most cells out.
        index = np.flatnonzero(objectness**0.6 > spec.min_confidence)
        score = (objectness[index] ** 0.6 * classes[:, index].max(axis=0) ** 0.4).astype(np.float32)
        index, score = index[score > spec.min_confidence], score[score > spec.min_confidence]
        column, row = levels[0].cells(index)
        trained = self._trained or size
        t = box[:, index]
        xyxy = corners(
            (column + np.tanh(t[0])) * np.float32(size[0] / levels[0].width),
            (row + np.tanh(t[1])) * np.float32(size[1] / levels[0].height),
            sigmoid(t[2]) * np.float32(trained[0]),
            sigmoid(t[3]) * np.float32(trained[1]),
        )
        return Detections(xyxy, score, classes[:, index].argmax(axis=0).astype(np.int32))


def _parts(level: Level) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Objectness [N], box terms [4, N] and class probabilities [classes, N]."""
    channels = [head.channels for head in level.heads]
    if len(channels) == 1 and channels[0] > 5:
        flat = level.heads[0].flat()
        return flat[0], flat[1:5], flat[5:]
    if len(channels) == 3 and channels[:2] == [1, 4]:
        objectness, box, classes = level.heads
        flat = classes.flat()
        probability = softmax(flat, axis=0) if "Softmax" in classes.post else flat
        return objectness.probabilities()[0], box.flat(), probability
    raise FamilyError(f"fastestdet: expected heads of 5 + classes or 1, 4, classes channels, got {channels}")
