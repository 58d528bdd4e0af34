"""What a frame takes before and after, dense and cached, on this machine: one turn of each model after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache.onnx_import import at_size, load_model
from cache.session import Session
from service.compression.activations import Image
from service.opened import OpenedModel
from service.preprocess import fit

DENSE_ROUNDS = 9


@dataclass(frozen=True)
class Times:
    """Medians, milliseconds: a dense frame, and a frame of a stream after its first one. work : share of the work that
    such frames take, the mean; `frames` of them."""

    dense_before_ms: float
    dense_after_ms: float
    cached_before_ms: float
    cached_after_ms: float
    work_before: float
    work_after: float
    frames: int

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def opened_as(opened: OpenedModel, file: Path | bytes) -> OpenedModel:
    """A compressed file in the place of the model that it was made of, at the same size, without its profile, whose
    steps are others. Raises ModelError."""
    shape = (1, opened.spec.channels, opened.size[1], opened.size[0])
    return replace(opened, model=at_size(load_model(file), shape), profile=None)


def time_both(
    before: OpenedModel, after: OpenedModel, frames: Iterable[Image], progress: Callable[[float], None] | None = None
) -> Times | None:
    """Time two models on consecutive frames uint8[H, W, 3] of a clip, one core each; None for fewer than two frames."""
    images = [np.ascontiguousarray(fit(frame, before.size, before.spec)[0]) for frame in frames]
    if len(images) < 2:
        return None
    plans = [opened.compile() for opened in (before, after)]
    whole, streams = [[Session(plan, exact=exact) for plan in plans] for exact in (True, False)]
    dense: list[list[float]] = [[], []]
    cached: list[list[float]] = [[], []]
    work: list[list[float]] = [[], []]
    for turn in range(DENSE_ROUNDS):
        for side, session in enumerate(whole):
            session.reset()
            began = time.perf_counter()
            session.push(images[turn % len(images)])
            dense[side].append(time.perf_counter() - began)
    for number, image in enumerate(images):
        if progress is not None:
            progress(number / len(images))
        for side, session in enumerate(streams):
            began = time.perf_counter()
            result = session.push(image)
            if number:
                cached[side].append(time.perf_counter() - began)
                work[side].append(result.compute_fraction)
    ms = [1e3 * float(np.median(values)) for values in (*dense, *cached)]
    return Times(ms[0], ms[1], ms[2], ms[3], float(np.mean(work[0])), float(np.mean(work[1])), len(images) - 1)
