"""Segmentation: a class per pixel, or one probability map (text detection by PaddleOCR's DB head, too)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from service.families.base import (
    Detections,
    FamilyError,
    FloatArray,
    IntArray,
    Mask,
    Outputs,
    Size,
    gather,
    sigmoid,
    softmax,
)

if TYPE_CHECKING:
    from cache.graph import Graph
    from cache.onnx_import import OnnxModel
    from service.model_spec import ModelSpec


class Segmenter:
    """Reads the model's first map output.

    1 x classes x h x w scores, 1 x 1 x h x w probabilities, or 1 x h x w class numbers.
    """

    name: ClassVar[str] = "segmentation"
    stride: int | None = None

    def outputs(self, model: OnnxModel, graph: Graph) -> Sequence[str] | None:
        """None: the model's own outputs."""
        return None

    def decode(self, outputs: Outputs, spec: ModelSpec, size: Size) -> Mask:
        """Mask at the output's resolution; regions in plan pixels, best first."""
        classes, probability = _read(outputs, spec)
        single = _is_single(outputs)
        numbers = [1] if single else [c for c in np.unique(classes).tolist() if c != spec.background]
        found = gather([_regions(classes == c, probability, 0 if single else c, spec, size) for c in numbers])
        best = np.argsort(-found.score, kind="stable")[: spec.max_detections]
        return Mask(classes, probability, found.select(best))


def _map(outputs: Outputs) -> NDArray[Any]:
    """The first output that is a map: scores [C, h, w], or class numbers [h, w]."""
    for values in outputs.values():
        if values.ndim in (3, 4) and values.shape[0] == 1:
            chosen: NDArray[Any] = values[0]
            return chosen
    shapes = ", ".join(f"{name} {'x'.join(map(str, v.shape))}" for name, v in outputs.items())
    raise FamilyError(f"segmentation: expected an output 1xCxHxW or 1xHxW, got {shapes}")


def _is_single(outputs: Outputs) -> bool:
    values = _map(outputs)
    return values.ndim == 3 and values.shape[0] == 1


def _read(outputs: Outputs, spec: ModelSpec) -> tuple[IntArray, FloatArray]:
    """Class number and its probability, [h, w] each."""
    values = _map(outputs)
    if values.ndim == 2:
        return values.astype(np.int32), np.ones(values.shape, np.float32)
    scores = np.array(values, np.float32)
    auto_done = spec.scores == "auto" and scores.min() >= 0 and scores.max() <= 1
    done = spec.scores == "probability" or auto_done
    if scores.shape[0] == 1:
        probability = scores[0] if done else sigmoid(scores[0])
        return (probability > spec.mask_threshold).astype(np.int32), probability
    classes = scores.argmax(axis=0).astype(np.int32)
    return classes, (scores if done else softmax(scores, axis=0)).max(axis=0)


def _regions(
    mask: NDArray[np.bool_], probability: FloatArray, class_id: int, spec: ModelSpec, size: Size
) -> Detections:
    """Connected (8-neighbour) regions of a bool mask as boxes, score = mean probability of their pixels."""
    height, width = mask.shape
    count, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    total = np.bincount(label.reshape(-1), weights=probability.reshape(-1), minlength=count)
    stats, area = stats[1:], stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    score = (total[1:] / np.maximum(area, 1)).astype(np.float32)
    scale = np.array([size[0] / width, size[1] / height])
    keep = (area * scale.prod() >= spec.min_region_px) & (score > spec.min_confidence)
    corner = stats[keep][:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]] * scale
    extent = stats[keep][:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]] * scale
    grow = (extent.prod(axis=1) * spec.unclip_ratio / np.maximum(2 * extent.sum(axis=1), 1e-9))[:, None]
    xyxy = np.concatenate([corner - grow, corner + extent + grow], axis=1)
    xyxy = np.clip(xyxy, 0, [*size, *size]).astype(np.float32)
    return Detections(xyxy, score[keep], np.full(len(xyxy), class_id, np.int32))
