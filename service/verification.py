"""`afterimage verify`: one model on one clip, incrementally and densely, on this engine and on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.onnx_import import extract
from cache.policy import Policy
from cache.session import Session
from cache.tail import TailRunner
from service.evaluate import Decoder, Incremental, evaluate
from service.opened import OpenedModel
from service.preprocess import fit

Image = NDArray[np.uint8]


def verify(
    opened: OpenedModel,
    frames: Iterable[Image],
    *,
    exact: bool = False,
    policy: Policy | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Compare an incremental run with a dense one, frame by frame; the figures of `service.evaluate.evaluate`.

    frames : uint8[H, W, 3] BGR of any size.
    """
    plan, spec, size = opened.compile(policy), opened.spec, opened.size
    # `whole` recomputes every frame in full: thresholds play no part, and exact saves measuring spreads.
    stream, whole = Session(plan, exact=exact), Session(plan, exact=True)
    runtime = TailRunner(
        extract(opened.model, {plan.input_name: plan.input_shape}, plan.output_names),
        [plan.input_name],
        plan.output_names,
    )

    def prepared(frame: Image) -> Image:
        return fit(frame, size, spec)[0]

    def incremental(frame: Image) -> Incremental:
        result = stream.push(prepared(frame))
        return Incremental(result.outputs, result.compute_fraction)

    def dense(frame: Image) -> Any:
        whole.reset()
        return whole.push(prepared(frame)).outputs

    def reference(frame: Image) -> Any:
        image = prepared(frame)
        return runtime.run({plan.input_name: plan.tensor(image)})

    decoder = Decoder(opened.family, spec, size)
    return evaluate(frames, incremental, dense, decoder, reference=reference, progress=progress)
