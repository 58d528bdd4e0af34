"""How far a model's outputs stray from the original's, and whether it sees the same things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.agreement import WEAK, Agreement
from service.calibration.damage import SAMPLES
from service.compression.activations import Image, Network
from service.compression.errors import CompressionError
from service.families.base import Classification, Detections, Mask, Outputs, Result, boxes_of
from service.opened import OpenedModel


@dataclass(frozen=True, eq=False)
class _Sample:
    """Of one output of one frame. values : at most `SAMPLES` of them, evenly spread, always the same ones."""

    shape: tuple[int, ...]
    values: NDArray[Any]

    @property
    def counts(self) -> bool:
        """Whether the values are classes or other numbers that are right or wrong, not near or far."""
        return not np.issubdtype(self.values.dtype, np.floating)


_Samples: TypeAlias = Mapping[str, _Sample]


class Truth:
    """What the original makes of some frames: samples of its outputs, and what is decoded of them."""

    def __init__(self, opened: OpenedModel, network: Network, images: Sequence[Image]) -> None:
        """images : prepared frames. Raises CompressionError where the model has no output that can be compared."""
        self._opened, self._images = opened, images
        self._spec = opened.spec.model_copy(update={"min_confidence": min(WEAK, opened.spec.min_confidence)})
        self._outputs: list[_Samples] = []
        self._results: list[Result] = []
        read = network.reader(network.outputs)
        for image in images:
            outputs = _only(read(image), network)
            self._outputs.append(_samples(outputs))
            self._results.append(self._decode(outputs))
        self._names = [name for name in network.outputs if any(frame[name].values.size for frame in self._outputs)]
        if not self._names:
            raise CompressionError(f"expected an output of numbers to compare, got {', '.join(network.outputs)}")

    def error(self, network: Network) -> float:
        """Root mean square of the difference of outputs over that of the original's; of an output of integers the
        square root of the share of values that differ; of several outputs the root mean square. Infinite where outputs
        are not finite, or have another shape."""
        read = network.reader(network.outputs)
        return self._error([_samples(_only(read(image), network)) for image in self._images])

    def compare(self, network: Network) -> tuple[float, dict[str, float] | None]:
        """The same, and agreement: of boxes (`service.agreement`), "top1" of classes, or "pixels" of masks; None where
        the frames hold nothing to compare."""
        read, found, results = network.reader(network.outputs), list[_Samples](), list[Result]()
        for image in self._images:
            outputs = _only(read(image), network)
            found.append(_samples(outputs))
            results.append(self._decode(outputs))
        return self._error(found), _agreement(results, self._results)

    def _error(self, found: Sequence[_Samples]) -> float:
        ratios = []
        for name in self._names:
            pairs = [(frame[name], truth[name]) for frame, truth in zip(found, self._outputs, strict=True)]
            if any(one.shape != other.shape for one, other in pairs):
                return float("inf")
            ratios.append(_ratio(pairs))
        error = float(np.sqrt(np.mean(ratios)))
        return error if np.isfinite(error) else float("inf")

    def _decode(self, outputs: Outputs) -> Result:
        return self._opened.family.decode({k: np.array(v) for k, v in outputs.items()}, self._spec, self._opened.size)


def _samples(outputs: Mapping[str, NDArray[Any]]) -> dict[str, _Sample]:
    found = {}
    for name, whole in outputs.items():
        number = np.issubdtype(whole.dtype, np.number) or whole.dtype == np.bool_
        values = whole.reshape(-1)[:: max(1, -(-whole.size // SAMPLES))] if number else np.zeros(0)
        found[name] = _Sample(whole.shape, np.array(values))
    return found


def _ratio(pairs: Sequence[tuple[_Sample, _Sample]]) -> float:
    """Square of an output's error: pairs of what was found and what should have been, of one shape each."""
    if pairs[0][1].counts:
        gap = sum(float(np.count_nonzero(a.values != b.values)) for a, b in pairs)
        return gap / sum(b.values.size for _, b in pairs)
    gap = sum(float(np.square(a.values.astype(np.float64) - b.values).sum()) for a, b in pairs)
    size = sum(float(np.square(b.values.astype(np.float64)).sum()) for _, b in pairs)
    return gap / size if size else gap


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
