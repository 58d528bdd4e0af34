"""How far a model's outputs stray from the original's, and whether it sees the same things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.agreement import WEAK, Agreement
from service.calibration.damage import samples
from service.compression.activations import Image, Network
from service.families.base import Classification, Detections, Mask, Outputs, Result, boxes_of
from service.opened import OpenedModel

_Samples = Mapping[str, NDArray[np.float32]]


class Truth:
    """What the original makes of some frames: samples of its outputs, and what is decoded of them."""

    def __init__(self, opened: OpenedModel, network: Network, images: Sequence[Image]) -> None:
        """images : prepared frames"""
        self._opened, self._images = opened, images
        self._spec = opened.spec.model_copy(update={"min_confidence": min(WEAK, opened.spec.min_confidence)})
        self._outputs: list[_Samples] = []
        self._results: list[Result] = []
        read = network.reader(network.outputs)
        for image in images:
            outputs = _only(read(image), network)
            self._outputs.append(samples(outputs))
            self._results.append(self._decode(outputs))

    def error(self, network: Network) -> float:
        """Root mean square of the difference of outputs over that of the original's; of several outputs the root mean
        square. Infinite where outputs are not finite."""
        read = network.reader(network.outputs)
        return self._error([samples(_only(read(image), network)) for image in self._images])

    def compare(self, network: Network) -> tuple[float, dict[str, float] | None]:
        """The same, and agreement: of boxes (`service.agreement`), "top1" of classes, or "pixels" of masks; None where
        the frames hold nothing to compare."""
        read, found, results = network.reader(network.outputs), list[_Samples](), list[Result]()
        for image in self._images:
            outputs = _only(read(image), network)
            found.append(samples(outputs))
            results.append(self._decode(outputs))
        return self._error(found), _agreement(results, self._results)

    def _error(self, found: Sequence[_Samples]) -> float:
        ratios = []
        for name in self._outputs[0]:
            gap = sum(float(np.square(a[name].astype(np.float64) - b[name]).sum()) for a, b in self._pairs(found))
            size = sum(float(np.square(b[name].astype(np.float64)).sum()) for _, b in self._pairs(found))
            ratios.append(gap / size if size else gap)
        error = float(np.sqrt(np.mean(ratios))) if ratios else 0.0
        return error if np.isfinite(error) else float("inf")

    def _pairs(self, found: Sequence[_Samples]) -> list[tuple[_Samples, _Samples]]:
        return list(zip(found, self._outputs, strict=True))

    def _decode(self, outputs: Outputs) -> Result:
        return self._opened.family.decode({k: np.array(v) for k, v in outputs.items()}, self._spec, self._opened.size)


def _only(tensors: Mapping[str, NDArray[Any]], network: Network) -> dict[str, NDArray[Any]]:
    return {name: tensors[name] for name in network.outputs}


def _agreement(found: Sequence[Result], truth: Sequence[Result]) -> dict[str, float] | None:
    if isinstance(truth[0], Classification):
        return {"top1": _mean([
            float(a.class_id[0] == b.class_id[0]) for a, b in zip(found, truth, strict=True)
            if isinstance(a, Classification) and isinstance(b, Classification)
        ])}  # fmt: skip
    figures: dict[str, float] = {}
    if isinstance(truth[0], Mask):
        figures["pixels"] = _mean([
            float((a.classes == b.classes).mean()) for a, b in zip(found, truth, strict=True)
            if isinstance(a, Mask) and isinstance(b, Mask)
        ])  # fmt: skip
    if isinstance(truth[0], Mask | Detections):
        boxes = Agreement()
        for a, b in zip(found, truth, strict=True):
            boxes.add(boxes_of(a), boxes_of(b))
        figures |= boxes.figures() or {}
    return figures or None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
