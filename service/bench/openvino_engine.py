"""OpenVINO's CPU device, from an optional package: named precision, one stream, latency first, memory shared."""

from __future__ import annotations

from functools import partial

import numpy as np

from cache.plan import Plan
from service.bench.engines import HOW_TO_INSTALL, EngineError, Precision
from service.bench.ingest import Frame, Ingest, Tensor, affine, fastest, ways
from service.families.base import Outputs

try:
    import openvino
    from openvino.preprocess import PrePostProcessor
except ImportError:
    openvino = None

INSIDE = "OpenVINO's own, in the graph"
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVino:
    """A float input for `tensor`; for `frame` the faster of preprocessing inside its graph and outside of it."""

    name = "openvino"

    def __init__(self, model: bytes, plan: Plan, threads: int, precision: Precision) -> None:
        """Raises EngineError: not installed, no such precision on this CPU, or OpenVINO's own reason."""
        if openvino is None:
            raise EngineError(f"not installed; {HOW_TO_INSTALL}")
        self._plan = plan
        core = openvino.Core()
        has = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in has:
            raise EngineError("it has no bfloat16 on this CPU")
        properties = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(core.read_model(model=model), "CPU", properties)
            self._request = compiled.create_infer_request()
            self._pixels = None
            line = affine(plan.table)
            if line is not None:
                inside = _with_pixels(core.read_model(model=model), *line)
                self._pixels = core.compile_model(inside, "CPU", properties).create_infer_request()
        except Exception as error:  # its exceptions are RuntimeErrors and its own GeneralFailure
            raise EngineError(f"OpenVINO cannot run this model: {str(error).strip()}") from error
        self._input = np.zeros(plan.input_shape, np.float32)
        self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=True))
        self.ingest, self._ingest = self._best_ingest()

    def frame(self, frame: Frame) -> Outputs:
        return self._through(self._ingest, frame)

    def tensor(self, x: Tensor) -> Outputs:
        np.copyto(self._input, x)
        return self._infer(self._request)

    def _best_ingest(self) -> tuple[str, Ingest | None]:
        plan = self._plan
        image = np.full((plan.height, plan.width, plan.channels), 114, np.uint8)
        candidates: dict[str, Ingest | None] = dict(ways(plan.table))
        if self._pixels is not None:
            candidates[INSIDE] = None
        name = fastest((name, partial(self._through, way, image)) for name, way in candidates.items())
        return name, candidates[name]

    def _through(self, way: Ingest | None, frame: Frame) -> Outputs:
        if way is None:
            assert self._pixels is not None
            self._pixels.set_input_tensor(openvino.Tensor(np.ascontiguousarray(frame)[None], shared_memory=True))
            return self._infer(self._pixels)
        way(frame, self._input)
        return self._infer(self._request)

    def _infer(self, request: openvino.InferRequest) -> Outputs:
        try:
            found = request.infer(share_outputs=True)
        except Exception as error:
            raise EngineError(f"OpenVINO failed on this model: {str(error).strip()}") from error
        return {name: found[name] for name in self._plan.output_names}


def _with_pixels(model: openvino.Model, mean: list[float], factor: list[float]) -> openvino.Model:
    """The model with a uint8[1, H, W, C] input, normalised as (v - mean) * factor in its graph."""
    builder = PrePostProcessor(model)
    image = builder.input()
    image.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    image.model().set_layout(openvino.Layout("NCHW"))
    steps = image.preprocess().convert_element_type(openvino.Type.f32)
    steps.mean(mean).scale([1 / value for value in factor])
    return builder.build()
