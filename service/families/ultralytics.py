"""Ultralytics exports (YOLOv5 to YOLO11 and their like): boxes decoded inside the model, in pixels.

Extra channels (mask coefficients, key points) are left alone, but for the key points of a pose model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from service.families.base import (
    Detections,
    FamilyError,
    FloatArray,
    Outputs,
    Size,
    corners,
    suppress,
)
from service.families.recognise import head_layout

if TYPE_CHECKING:
    from cache.graph import Graph
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec


class Ultralytics:
    """Decodes the model's own first three-dimensional output.

    v5: 1 x N x (4 + 1 + classes + extra), with objectness; v8: 1 x (4 + classes + extra) x N;
    end2end: 1 x N x (6 + extra) of xyxy, score, class, with NMS done inside the model.
    """

    name: ClassVar[str] = "ultralytics"
    stride: int | None = None

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """None: the model's own outputs."""
        return None

    def decode(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes in plan pixels after class-aware NMS."""
        found, layout = self._read(outputs, spec)
        return found if layout == "end2end" else suppress(found, spec)

    def candidates(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Detections:
        """Boxes with score > spec.min_confidence in plan pixels, before NMS."""
        return self._read(outputs, spec)[0]

    def _read(self, outputs: Outputs, spec: ModelSpec) -> tuple[Detections, str]:
        name, values = _boxes_output(outputs)
        classes = len(spec.labels)
        layout = spec.layout if spec.layout != "auto" else head_layout(values.shape, classes or None)
        table = np.asarray(values[0] if layout == "v8" else values[0].T, np.float32)
        least = {"v5": 5 + max(1, classes), "v8": 4 + max(1, classes)}.get(str(layout), 6)
        if table.shape[0] < least:
            shape = "x".join(map(str, values.shape))
            expected = f"at least {least} values a box"
            raise FamilyError(f"ultralytics {layout}: expected {expected}, got {name!r} {shape}")
        read = {"v5": _with_objectness, "v8": _without_objectness}.get(str(layout), _finished)
        return read(table, spec), str(layout)


def _boxes_output(outputs: Outputs) -> tuple[str, NDArray[Any]]:
    """The first output of three dimensions; mask prototypes and raw heads have more."""
    for name, values in outputs.items():
        if values.ndim == 3 and values.shape[0] == 1:
            return name, values
    shapes = ", ".join(f"{n} {'x'.join(map(str, v.shape))}" for n, v in outputs.items())
    raise FamilyError(f"ultralytics: expected an output of three dimensions, got {shapes}")


def _with_objectness(table: FloatArray, spec: ModelSpec) -> Detections:
    """table : float32[5 + classes + extra, N]."""
    classes = len(spec.labels) or table.shape[0] - 5
    table = table[:, table[4] > spec.min_confidence]
    best = table[5 : 5 + classes]
    score = table[4] * best.max(axis=0)
    return _pick(table, score, best, score > spec.min_confidence, 5 + classes, spec)


def _without_objectness(table: FloatArray, spec: ModelSpec) -> Detections:
    """table : float32[4 + classes + extra, N]."""
    points = _point_channels(spec)
    classes = len(spec.labels) or table.shape[0] - 4 - points
    best = table[4 : 4 + classes]
    score = best.max(axis=0)
    return _pick(table, score, best, score > spec.min_confidence, 4 + classes, spec)


def _finished(table: FloatArray, spec: ModelSpec) -> Detections:
    """table : float32[6 + extra, N] of boxes that went through NMS in the model."""
    table = table[:, table[4] > spec.min_confidence]
    table = table[:, np.argsort(-table[4], kind="stable")][:, : spec.max_detections]
    points = _keypoints(table[6:], spec)
    return Detections(np.ascontiguousarray(table[:4].T), table[4], table[5].astype(np.int32), points)


def _pick(
    table: FloatArray,
    score: FloatArray,
    best: FloatArray,
    keep: NDArray[np.bool_],
    extra: int,
    spec: ModelSpec,
) -> Detections:
    chosen = table[:, keep]
    xyxy = corners(chosen[0], chosen[1], chosen[2], chosen[3])
    class_id = best[:, keep].argmax(axis=0).astype(np.int32)
    return Detections(xyxy, score[keep], class_id, _keypoints(chosen[extra:], spec))


def _point_channels(spec: ModelSpec) -> int:
    return 0 if spec.keypoint_shape is None else spec.keypoint_shape[0] * spec.keypoint_shape[1]


def _keypoints(extra: FloatArray, spec: ModelSpec) -> FloatArray | None:
    """float32[N, K, 3] of the channels behind the classes, or None when the model has no key points."""
    if spec.keypoint_shape is None or extra.shape[0] < _point_channels(spec):
        return None
    count, values = spec.keypoint_shape
    points = np.ones((extra.shape[1], count, 3), np.float32)
    table = extra[: count * values].reshape(count, values, -1)
    points[:, :, :values] = table.transpose(2, 0, 1)[:, :, :3]
    return points
