"""The ways of running one model on a clip: our stream in two modes, our full recompute, and other engines' dense runs.

Each takes a JPEG or a decoded frame and gives boxes; all share the decoder of the JPEG, the fit and the family's
decoding with its suppression, so that only the network between them differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.session import Session
from service import codec
from service.bench.engines import Engine
from service.families.base import Outputs
from service.opened import OpenedModel
from service.preprocess import fit

Image: TypeAlias = NDArray[np.uint8]

BUDGET, EXACT, DENSE = "ours_budget", "ours_exact", "ours_dense"


@dataclass(frozen=True)
class Step:
    """One frame through one variant. fraction : share of the work done, 1 for a dense run. outputs : copied."""

    decode_ns: int
    infer_ns: int
    boxes_ns: int
    fraction: float
    outputs: Outputs = field(repr=False)


@dataclass
class Series:
    """A variant's frames so far: milliseconds, and the share of the work.

    decode_ms : JPEG to pixels. infer_ms : pixels to output tensors, the fit included. boxes_ms : tensors to boxes.
    """

    decode_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    boxes_ms: list[float] = field(default_factory=list)
    fraction: list[float] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Append one frame."""
        self.decode_ms.append(step.decode_ns / 1e6)
        self.infer_ms.append(step.infer_ns / 1e6)
        self.boxes_ms.append(step.boxes_ns / 1e6)
        self.fraction.append(step.fraction)

    @property
    def frame_ms(self) -> list[float]:
        """Decoded frame to boxes."""
        return [one + other for one, other in zip(self.infer_ms, self.boxes_ms, strict=True)]

    @property
    def jpeg_ms(self) -> list[float]:
        """JPEG to boxes."""
        return [one + other for one, other in zip(self.decode_ms, self.frame_ms, strict=True)]


Network: TypeAlias = Callable[[Image], tuple[Outputs, float]]
"""Frame at the plan's size -> output tensors (valid until the next call) and the share of the work done."""


@dataclass(frozen=True)
class Variant:
    """One way of running the model; `run` one frame after the other, each once."""

    name: str
    network: Network
    opened: OpenedModel

    def run(self, jpeg: bytes, image: Image) -> Step:
        """Decode `jpeg` (timed, then dropped), and run `image`, the pixels that every variant sees."""
        opened = self.opened
        begun = time.perf_counter_ns()
        codec.decode(jpeg)
        decoded = time.perf_counter_ns()
        outputs, fraction = self.network(fit(image, opened.size, opened.spec)[0])
        inferred = time.perf_counter_ns()
        opened.family.decode(outputs, opened.spec, opened.size)
        done = time.perf_counter_ns()
        return Step(decoded - begun, inferred - decoded, done - inferred, fraction, _copied(outputs))

    def outputs(self, image: Image) -> Outputs:
        """The output tensors of a frame, copied; not timed."""
        return _copied(self.network(fit(image, self.opened.size, self.opened.spec)[0])[0])


def _copied(outputs: Outputs) -> Outputs:
    return {name: np.array(values) for name, values in outputs.items()}


def stream(session: Session) -> Network:
    """Our engine on a stream: what changed is recomputed."""

    def network(image: Image) -> tuple[Outputs, float]:
        result = session.push(image)
        return result.outputs, result.compute_fraction

    return network


def full(engine: Engine) -> Network:
    """An engine that computes every frame in full."""

    def network(image: Image) -> tuple[Outputs, float]:
        return engine.frame(image), 1.0

    return network


def same_bits(one: Outputs, other: Outputs) -> bool:
    """Whether two sides have the same tensors, bit for bit."""

    def raw(values: NDArray[Any]) -> tuple[Any, ...]:
        return values.dtype, values.shape, values.tobytes()

    return one.keys() == other.keys() and all(raw(values) == raw(other[name]) for name, values in one.items())
