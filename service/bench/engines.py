"""The engines that are compared, each at its best, behind one small protocol.

All of them end at the tensors that our plan ends at, for one fixed input size, and write into memory that is theirs:
what a call returns is valid until that engine's next call.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from cache.onnx_import import extract
from cache.plan import Plan
from cache.session import Session
from service.bench.errors import BenchError
from service.bench.ingest import Frame, Tensor, fastest, ways
from service.families.base import Outputs
from service.opened import OpenedModel

Precision: TypeAlias = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
OWN = "ours"
OTHERS = ("onnxruntime", "openvino")
HOW_TO_INSTALL = "pip install openvino matplotlib (in a checkout: make setup)"


class EngineError(BenchError):
    """An engine cannot run a model, or not in this way; the message says why."""


class Engine(Protocol):
    """One model, loaded. `ingest` says how a frame becomes its tensor."""

    name: str
    ingest: str

    def frame(self, frame: Frame) -> Outputs:
        """Output tensors of a frame uint8[H, W, C] at the plan's size and in its channel order."""

    def tensor(self, x: Tensor) -> Outputs:
        """Output tensors of float32[1, C, H, W], normalised already."""


class Own:
    """This engine, computing every pixel of every map anew: what a frame costs that has nothing to reuse.

    measured : also measure the spread of every map, as a stream's own keyframes do that set thresholds by it.
    """

    name = OWN
    ingest = "inside Session.push"

    def __init__(self, plan: Plan, threads: int, *, measured: bool = False) -> None:
        self.session = Session(plan, exact=not measured, threads=threads)

    def frame(self, frame: Frame) -> Outputs:
        self.session.reset()
        return self.session.push(frame).outputs

    def tensor(self, x: Tensor) -> Outputs:
        self.session.reset()
        return self.session.push_tensor(x).outputs


class OnnxRuntime:
    """ONNX Runtime's CPU provider: every graph optimisation, input and outputs bound to memory once."""

    name = "onnxruntime"

    def __init__(self, model: bytes, plan: Plan, threads: int, precision: Precision) -> None:
        """Raises EngineError with ONNX Runtime's own reason when it cannot run the model."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if precision == "bfloat16":
            if platform.machine() not in ("aarch64", "arm64"):
                raise EngineError("its CPU provider computes float32 models in float32 alone on amd64")
            options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no base but Exception
            raise EngineError(f"ONNX Runtime cannot run this model: {error}") from error
        self._binding = self._session.io_binding()
        self._input = np.zeros(plan.input_shape, np.float32)
        self._bind_input(plan.input_name, self._input)
        self._outputs: dict[str, NDArray[Any]] | None = self._bind_outputs()
        found = ways(plan.table)
        image = np.full((plan.height, plan.width, plan.channels), 114, np.uint8)
        self.ingest = fastest((name, partial(way, image, self._input)) for name, way in found.items())
        self._ingest = found[self.ingest]

    def frame(self, frame: Frame) -> Outputs:
        self._ingest(frame, self._input)
        return self._run()

    def tensor(self, x: Tensor) -> Outputs:
        np.copyto(self._input, x)
        return self._run()

    def _bind_input(self, name: str, array: Tensor) -> None:
        self._binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def _bind_outputs(self) -> dict[str, NDArray[Any]] | None:
        """Memory for every output; None where shapes or types are not known beforehand: it then allocates them."""
        items = self._session.get_outputs()
        if not all(item.type == "tensor(float)" and all(isinstance(n, int) for n in item.shape) for item in items):
            return None
        made = {item.name: np.zeros(item.shape, np.float32) for item in items}
        for name, array in made.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return made

    def _run(self) -> Outputs:
        names = [item.name for item in self._session.get_outputs()] if self._outputs is None else []
        for name in names:  # anew each time: a binding keeps what the last run allocated, whose shape may not fit
            self._binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on this model: {error}") from error
        if self._outputs is not None:
            return self._outputs
        return dict(zip(names, self._binding.copy_outputs_to_cpu(), strict=True))


def compile_own(opened: OpenedModel, precision: Precision) -> Plan:
    """Our plan of a model. Raises EngineError for a precision that this engine does not compute in."""
    if precision != "float32":
        raise EngineError(f"it computes in float32, not in {precision}")
    return opened.compile()


def open_other(name: str, opened: OpenedModel, plan: Plan, threads: int, precision: Precision) -> Engine:
    """Another engine by its name, for a model as our plan has it: same input size, same output tensors.

    Raises EngineError: it is not installed, or cannot run this model in this precision.
    """
    model = extract(opened.model, {plan.input_name: plan.input_shape}, plan.output_names)
    if name == "onnxruntime":
        return OnnxRuntime(model, plan, threads, precision)
    if name == "openvino":
        from service.bench.openvino_engine import OpenVino  # an optional package

        return OpenVino(model, plan, threads, precision)
    raise ValueError(f"expected one of {', '.join(OTHERS)}, got {name!r}")


def open_others(
    names: Sequence[str], opened: OpenedModel, plan: Plan, threads: int, precision: Precision
) -> tuple[dict[str, Engine], dict[str, str]]:
    """Those engines that run the model, tried on one frame, and why the rest do not."""
    engines: dict[str, Engine] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            engine = open_other(name, opened, plan, threads, precision)
            engine.frame(np.full((plan.height, plan.width, plan.channels), 114, np.uint8))
        except EngineError as error:
            reasons[name] = str(error)
        else:
            engines[name] = engine
    return engines, reasons
