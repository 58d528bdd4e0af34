"""Convolutions and networks of bytes: `python -m benchmarks.int8 [--model FILE ...] [--json FILE]`.

One convolution at a time, on bytes, in float32 directly, in float32 as the engine would choose, and on bytes by ONNX
Runtime; then whole quantised files, dense, against ONNX Runtime. One thread each, timed in turn, medians.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from cache.onnx_import import load_model
from cache.plan import Plan, every_pixel
from cache.policy import Policy
from cache.session import Session
from kernels.layout import Test
from kernels.simd import STORE

SHAPES = (
    (56, 56, 64, 64, 3), (28, 28, 128, 128, 3), (112, 112, 32, 32, 3), (48, 80, 48, 48, 3), (24, 40, 96, 96, 3),
    (56, 56, 64, 128, 1), (28, 28, 256, 256, 1), (52, 52, 64, 64, 1),
)  # fmt: skip
ROUNDS = 40


@dataclass(frozen=True)
class Figure:
    """One convolution, in billions of operations a second (two to a multiply-accumulate)."""

    height: int
    width: int
    inputs: int
    outputs: int
    kernel: int
    int8: float
    float32_direct: float
    float32: float
    runtime_int8: float


@dataclass(frozen=True)
class Network:
    """A whole file. equal : share of output values with ONNX Runtime's bits."""

    name: str
    ours_ms: float
    runtime_ms: float
    equal: float


def file(nodes: list[Any], constants: dict[str, np.ndarray], shape: list[int], ends: tuple[int, int]) -> bytes:
    """A model from x to y with these element types."""
    graph = helper.make_graph(
        nodes, "one convolution", [helper.make_tensor_value_info("x", ends[0], shape)],
        [helper.make_tensor_value_info("y", ends[1], None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def models(height: int, width: int, inputs: int, outputs: int, kernel: int) -> tuple[bytes, bytes, bytes]:
    """The convolution between float32, between bytes with an image of float32, and between bytes alone."""
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (outputs, inputs, kernel, kernel)).astype(np.int8)
    shape, pads = [1, inputs, height, width], [kernel // 2] * 4
    plain = file(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=pads)], {"w": q.astype(np.float32) / 127}, shape,
        (TensorProto.FLOAT, TensorProto.FLOAT),
    )  # fmt: skip
    names = ["s", "z", "w", "sw", "zw", "so", "z"]
    constants = {
        "w": q, "s": np.float32(0.02), "z": np.uint8(128), "sw": np.float32(1 / 127), "zw": np.int8(0),
        "so": np.float32(0.02 * np.sqrt(inputs) * kernel),
    }  # fmt: skip
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    conv = helper.make_node("QLinearConv", ["q", *names], ["y"], pads=pads)
    alone = helper.make_node("QLinearConv", ["x", *names], ["y"], pads=pads)
    return (
        plain, file([quantise, conv], constants, shape, (TensorProto.FLOAT, TensorProto.UINT8)),
        file([alone], constants, shape, (TensorProto.UINT8, TensorProto.UINT8)),
    )  # fmt: skip


def runtime(model: bytes | str) -> Any:
    """ONNX Runtime with all optimisations, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def step(data: bytes, op: str, policy: Policy, x: np.ndarray) -> Callable[[], object]:
    """The convolution's step alone, on every pixel of its map."""
    plan = Plan.compile(load_model(data), policy=policy)
    session = Session(plan, exact=True)
    session.push_tensor(x)
    planned = next(s for s in plan.steps if s.step.op == op)
    info, block = plan.maps[planned.step.target], planned.step.method.grain
    pixels = every_pixel(info.height, info.width, max(block, 4))
    return lambda: session._state.compute(planned.step.method, pixels, Test(STORE, 0.0, max(block, 4)))


def medians(calls: list[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each, called in turn."""
    times = np.empty((rounds, len(calls)))
    for turn in range(rounds):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            times[turn, index] = time.perf_counter() - start
    found: list[float] = np.median(times[2:], axis=0).tolist()
    return found


def measure(shape: tuple[int, int, int, int, int]) -> Figure:
    """All four ways."""
    height, width, inputs, outputs, kernel = shape
    plain, quantised, alone = models(*shape)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, inputs, height, width)).astype(np.float32)
    other, stored = runtime(alone), rng.integers(0, 256, x.shape).astype(np.uint8)
    found = medians(
        [
            step(quantised, "q_conv", Policy(), x), step(plain, "conv", Policy(precision="strict"), x),
            step(plain, "conv", Policy(), x), lambda: other.run(None, {"x": stored}),
        ]
    )  # fmt: skip
    work = 2e-9 * height * width * inputs * outputs * kernel**2
    return Figure(*shape, *(work / seconds for seconds in found))


def whole(path: Path) -> Network:
    """A file on random frames: keyframes of a session against runs of ONNX Runtime."""
    plan = Plan.compile(load_model(path))
    session, other = Session(plan, exact=True), runtime(str(path))
    frame = np.random.default_rng(0).integers(0, 256, (plan.height, plan.width, plan.channels)).astype(np.uint8)
    x = plan.tensor(frame)

    def keyframe() -> Any:
        session.reset()
        return session.push(frame)

    found, expected = keyframe().outputs, other.run(None, {plan.input_name: x})
    same = [np.mean(found[name] == value) for name, value in zip(plan.output_names, expected, strict=True)]
    ours, theirs = medians([keyframe, lambda: other.run(None, {plan.input_name: x})])
    return Network(path.stem, ours * 1e3, theirs * 1e3, float(np.mean(same)))


def command(
    model: Annotated[list[Path] | None, typer.Option(help="A quantised file; may be given several times.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Convolutions and networks of bytes against float32 and ONNX Runtime."""
    figures = [measure(shape) for shape in SHAPES]
    table = Table("convolution", "int8", "float32 direct", "float32", "ONNX Runtime int8", title="GOP/s, one thread")
    for f in figures:
        name = f"{f.kernel}x{f.kernel} {f.inputs} to {f.outputs}, {f.height}x{f.width}"
        table.add_row(name, *(f"{v:.0f}" for v in (f.int8, f.float32_direct, f.float32, f.runtime_int8)))
    console = Console()
    console.print(table)
    networks = [whole(path) for path in model or ()]
    for n in networks:
        ratio = n.runtime_ms / n.ours_ms
        console.print(
            f"{n.name}: {n.ours_ms:.2f} ms, ONNX Runtime {n.runtime_ms:.2f} ({ratio:.2f}); equal {n.equal:.2%}"
        )
    if json_path is not None:
        found = {"convolutions": [asdict(f) for f in figures], "networks": [asdict(n) for n in networks]}
        json_path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
