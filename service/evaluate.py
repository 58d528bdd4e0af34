"""The core of `afterimage verify`: a clip run incrementally and densely, and how the two compare.

Knows no engine: it is given callables from frame to output tensors. Every frame is brought to plan size and
through JPEG (quality 90), as frames of a camera come; both sides see that same frame. The noise floor is the
dense network on the same frame at quality 80: a difference that nobody would call an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from service.agreement import WEAK, Agreement
from service.families.base import Family, Outputs, Size, boxes_of
from service.model_spec import ModelSpec

Image: TypeAlias = NDArray[np.uint8]
Dense: TypeAlias = Callable[[Image], Outputs]
"""Frame uint8[h, w, 3] BGR at plan size -> output tensors of a full recompute."""

CAMERA_QUALITY = 90
NOISE_QUALITY = 80


class EvaluationError(ValueError):
    """The clip or the outputs cannot be compared; the message says why."""


@dataclass(frozen=True)
class Incremental:
    """One incremental step: output tensors (copied before anything else runs) and its compute fraction."""

    outputs: Outputs
    compute_fraction: float


@dataclass(frozen=True)
class Decoder:
    """What makes boxes of output tensors: a family, its specification and the plan's size."""

    family: Family
    spec: ModelSpec
    size: Size


def evaluate(
    frames: Iterable[Image],
    incremental: Callable[[Image], Incremental],
    dense: Dense,
    decoder: Decoder,
    *,
    reference: Dense | None = None,
    audit: Callable[[Image, Outputs, Outputs], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run every frame both ways and return the figures, ready for JSON.

    frames : uint8[H, W, 3] BGR of any size, in clip order
    incremental : one step of one stream; frames come to it in order, each once
    dense : a full recompute that leaves the stream alone; must use the same plan outputs
    reference : another engine on the clip's first frame, for "onnxruntime_error"; None gives null
    audit : called with each frame as it was seen, its dense outputs, and those of the same frame at quality 80
    progress : called with the number of frames done

    Keys: frames, compute_fraction {mean, median, p90, max} over all frames but the first (which computes
    everything), agreement and noise_floor {iou50, iou75} or null with a "note" when no strong box was seen,
    max_abs_error, onnxruntime_error, bit_identical, strong_boxes (both sides together).
    Raises EvaluationError for an empty clip or outputs that differ in name or shape.
    """
    spec = decoder.spec.model_copy(update={"min_confidence": min(WEAK, decoder.spec.min_confidence)})
    agreement, noise, errors = Agreement(), Agreement(), _Errors()
    fractions: list[float] = []
    onnxruntime_error: float | None = None
    for frame in frames:
        small = to_plan_size(frame, decoder.size)
        seen = through_jpeg(small, CAMERA_QUALITY)
        step = incremental(seen)
        stepped = {name: np.array(values) for name, values in step.outputs.items()}
        full = {name: np.array(values) for name, values in dense(seen).items()}
        errors.add(stepped, full)
        if not fractions and reference is not None:
            onnxruntime_error = relative_error(full, reference(seen))
        fractions.append(step.compute_fraction)
        truth = boxes_of(decoder.family.decode(full, spec, decoder.size))
        agreement.add(boxes_of(decoder.family.decode(stepped, spec, decoder.size)), truth)
        noisy = dense(through_jpeg(small, NOISE_QUALITY))
        if audit is not None:
            audit(seen, full, noisy)
        noise.add(boxes_of(decoder.family.decode(noisy, spec, decoder.size)), truth)
        if progress is not None:
            progress(len(fractions))
    if not fractions:
        raise EvaluationError("expected at least one frame, got none: the clip ends before the first one asked for")
    figures = agreement.figures()
    report = {
        "frames": len(fractions),
        "compute_fraction": summary(fractions[1:] or fractions),
        "agreement": figures,
        "noise_floor": noise.figures() if figures else None,
        "max_abs_error": errors.largest,
        "onnxruntime_error": onnxruntime_error,
        "bit_identical": errors.bit_identical,
        "strong_boxes": agreement.total,
    }
    return report if figures else {**report, "note": "no boxes"}


def to_plan_size(frame: Image, size: Size) -> Image:
    """Stretch to (W, H) by area averaging, the same for every model, so that figures compare."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    resized: Image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return resized


def through_jpeg(frame: Image, quality: int) -> Image:
    """The frame as it comes out of JPEG at this quality (0..100)."""
    _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return decoded


def summary(fractions: list[float]) -> dict[str, float]:
    """Mean, median, 90th percentile and maximum."""
    values = np.asarray(fractions, np.float64)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p90": float(np.percentile(values, 90)),
        "max": float(values.max()),
    }


def relative_error(outputs: Outputs, reference: Outputs) -> float:
    """Largest |difference| over the output's own largest magnitude in `reference`, the worst output's."""
    check_same(outputs, reference)
    worst = 0.0
    for name, values in reference.items():
        if not values.size:
            continue
        gap = float(np.abs(outputs[name].astype(np.float64) - values.astype(np.float64)).max())
        scale = float(np.abs(values.astype(np.float64)).max())
        worst = max(worst, gap / scale if scale else gap)
    return worst


def check_same(one: Outputs, other: Outputs) -> None:
    """Raise EvaluationError unless both sides have the same names and shapes."""
    shapes = [{name: values.shape for name, values in side.items()} for side in (one, other)]
    if shapes[0] != shapes[1]:
        raise EvaluationError(f"expected the same outputs on both sides, got {shapes[0]} and {shapes[1]}")


class _Errors:
    """The largest absolute difference, and whether every bit was the same."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.bit_identical = True

    def add(self, one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> None:
        check_same(one, other)
        for name, values in one.items():
            if values.dtype == other[name].dtype and values.tobytes() == other[name].tobytes():
                continue
            self.bit_identical = False
            gap = np.abs(values.astype(np.float64) - other[name].astype(np.float64))
            if not np.isfinite(gap).all():
                raise EvaluationError(f"expected finite values, got output {name!r} with infinities or NaN")
            self.largest = max(self.largest, float(gap.max()))
