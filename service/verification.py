"""`afterimage verify`: one model on one clip, incrementally and densely, on this engine and on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.onnx_import import OnnxModel, extract, import_graph, load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.tail import TailRunner
from service.evaluate import Decoder, Incremental, evaluate
from service.families import Family, Size, check_size, create, default_size
from service.model_spec import ModelSpec, load_spec
from service.preprocess import fit

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Compiled:
    """A model with its specification, compiled for one size (W, H)."""

    model: OnnxModel
    spec: ModelSpec
    family: Family
    size: Size
    plan: Plan


def compile_model(
    path: str, size: Size | None = None, spec_path: str | None = None, policy: Policy | None = None
) -> Compiled:
    """Load and compile a model file. Raises ModelError, SpecError, FamilyError or OSError with the reason."""
    model = load_model(path)
    spec = load_spec(spec_path, model)
    family = create(spec)
    chosen = size or default_size(model, spec)
    check_size(model, spec, chosen)
    shape = (1, spec.channels, chosen[1], chosen[0])
    outputs = family.outputs(model, import_graph(model, shape))
    plan = Plan.compile(model, shape, outputs, spec.normalisation(), policy)
    return Compiled(model, spec, family, chosen, plan)


def verify(
    compiled: Compiled,
    frames: Iterable[Image],
    *,
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Compare an incremental run with a dense one, frame by frame; the figures of `service.evaluate.evaluate`.

    frames : uint8[H, W, 3] BGR of any size.
    """
    plan, spec, size = compiled.plan, compiled.spec, compiled.size
    stream, whole = Session(plan, exact=exact), Session(plan, exact=exact)
    runtime = TailRunner(
        extract(compiled.model, {plan.input_name: plan.input_shape}, plan.output_names),
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
        values = np.stack([plan.table[image[:, :, c], c] for c in range(plan.channels)])
        return runtime.run({plan.input_name: values[None]})

    decoder = Decoder(compiled.family, spec, size)
    return evaluate(frames, incremental, dense, decoder, reference=reference, progress=progress)
