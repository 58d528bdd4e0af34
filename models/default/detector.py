"""A model file as a function from image to boxes of our classes, by the product's own pipeline.

Any detector that the service can open: classes of other label lists are brought to ours by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from cache.onnx_import import extract
from cache.plan import Plan
from cache.session import Session
from cache.tail import runtime_session
from models.default.pack import LABELS
from service.families import Detections, FamilyError, Size, boxes_of
from service.families.base import Outputs
from service.nms import nms
from service.opened import OpenedModel, open_model
from service.preprocess import fit

Image: TypeAlias = NDArray[np.uint8]
Engine: TypeAlias = Literal["onnxruntime", "ours"]
Forward: TypeAlias = Callable[[Image], Outputs]
"""uint8[H, W, C] at plan size, in the plan's channel order -> output tensors."""

ENGINES: tuple[Engine, ...] = get_args(Engine)
SIZE: Size = (640, 384)
LEAST = 0.01
"""Boxes are kept down to this score, as average precision needs them."""

SAME_AS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("car", "bus", "truck", "motorcycle", "bicycle"), "vehicle")
)


class Detector:
    """One opened model. Call it with a frame uint8[H, W, 3] BGR of any size; boxes come in the frame's pixels.

    least : score that a box must have at all. name : the file's. labels : those of our classes that it knows.
    threshold : score from which a box is shown, by its specification. Raises what `service.opened.open_model` raises,
    and FamilyError for a model without our classes.
    """

    def __init__(
        self, path: str | Path, *, size: Size = SIZE, engine: Engine = "onnxruntime", least: float = LEAST
    ) -> None:
        opened = open_model(path, size)
        self.name = Path(path).stem
        self.threshold = opened.spec.min_confidence
        self._class_of = class_numbers(opened.spec.labels)
        self.labels = tuple(label for number, label in enumerate(LABELS) if number in self._class_of)
        if not self.labels:
            known = ", ".join(opened.spec.labels[:8]) or "none"
            raise FamilyError(f"{self.name}: expected a class of {', '.join(LABELS)}; its labels are {known}")
        self._size, self._family = opened.size, opened.family
        self._spec = opened.spec.model_copy(update={"min_confidence": least})
        plan = opened.compile()
        self._forward = on_runtime(opened, plan, threads=2) if engine == "onnxruntime" else on_engine(plan)

    def __call__(self, frame: Image) -> Detections:
        image, placement = fit(frame, self._size, self._spec)
        found = boxes_of(self._family.decode(self._forward(image), self._spec, self._size))
        return placement.detections_to_frame(as_ours(found, self._class_of, self._spec.iou))


def class_numbers(labels: Sequence[str]) -> NDArray[np.int32]:
    """int32[len(labels)]: our class of each of a model's classes, -1 for none."""
    names = [SAME_AS.get(label, label) for label in labels]
    return np.asarray([LABELS.index(name) if name in LABELS else -1 for name in names], np.int32)


def as_ours(found: Detections, class_of: NDArray[np.int32], iou: float) -> Detections:
    """Boxes of our classes only; classes that became one pass NMS at `iou` once more. class_of : `class_numbers`."""
    number = class_of[found.class_id]
    kept = found.select(number >= 0)
    kept = Detections(kept.xyxy, kept.score, number[number >= 0])
    return kept.select(nms(kept.xyxy, kept.score, kept.class_id, iou))


def on_runtime(opened: OpenedModel, plan: Plan, threads: int) -> Forward:
    """ONNX Runtime, ending at the plan's outputs."""
    session = runtime_session(extract(opened.model, {plan.input_name: plan.input_shape}, plan.output_names), threads)
    names = list(plan.output_names)

    def forward(image: Image) -> dict[str, Any]:
        return dict(zip(names, session.run(names, {plan.input_name: plan.tensor(image)}), strict=True))

    return forward


def on_engine(plan: Plan) -> Forward:
    """Our engine, every frame whole."""
    session = Session(plan, exact=True)

    def forward(image: Image) -> Outputs:
        session.reset()
        return session.push(image).outputs

    return forward


def names_of(paths: Sequence[Path]) -> list[str]:
    """Names for a report: of the files without their ending; the whole path where two are alike."""
    stems = [path.stem for path in paths]
    return [str(path) if stems.count(path.stem) > 1 else path.stem for path in paths]
