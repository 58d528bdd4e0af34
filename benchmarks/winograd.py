"""Winograd's method against direct convolution: `python -m benchmarks.winograd [--json FILE]`.

One 3x3 convolution at a time, compiled twice (`Policy.precision`), both timed in turn on the same input: dense, and on
5% of the 4x4 blocks. One thread, medians; the error is the largest difference over the direct result's largest
magnitude.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
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

SHAPES = ((56, 56, 64, 64), (28, 28, 128, 128), (112, 112, 32, 32), (48, 80, 48, 48), (24, 40, 96, 96))
SHARES = (1.0, 0.05)
BLOCK_PIXELS = 16
ROUNDS = 40


@dataclass(frozen=True)
class Figure:
    """One measurement. share : of the 4x4 blocks. ratio : above 1, Winograd's method is faster."""

    height: int
    width: int
    inputs: int
    outputs: int
    share: float
    direct_ms: float
    winograd_ms: float
    ratio: float
    error: float


def model(height: int, width: int, inputs: int, outputs: int) -> bytes:
    """One convolution with random weights that keeps values near 1."""
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)).astype(np.float32)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(outputs, np.float32), "b")]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, height, width])
        for name, channels in (("x", inputs), ("y", outputs))
    ]
    graph = helper.make_graph([node], "one convolution", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


class Subject:
    """The convolution compiled one way, its input in place."""

    def __init__(self, data: bytes, precision: Literal["fast", "strict"], x: np.ndarray) -> None:
        self.plan = Plan.compile(load_model(data), policy=Policy(precision=precision))
        self.session = Session(self.plan, exact=True)
        self.result = self.session.push_tensor(x).outputs["y"].copy()
        self.step = next(s.step for s in self.plan.steps if s.step.op == "conv")

    def seconds(self, pixels: np.ndarray) -> float:
        """One call on these pixels."""
        start = time.perf_counter()
        self.session._state.compute(self.step.method, pixels, Test(STORE, 0.0, 4))
        return time.perf_counter() - start


def measure(shape: tuple[int, int, int, int]) -> list[Figure]:
    """Both ways, dense and on a list."""
    height, width, inputs, _ = shape
    data, rng = model(*shape), np.random.default_rng(1)
    x = rng.standard_normal((1, inputs, height, width)).astype(np.float32)
    direct, fast = Subject(data, "strict", x), Subject(data, "fast", x)
    error = float(np.abs(direct.result - fast.result).max() / np.abs(direct.result).max())
    blocks = every_pixel(height, width, 4).reshape(-1, BLOCK_PIXELS, 2)
    figures = []
    for share in SHARES:
        count = max(1, round(len(blocks) * share))
        chosen = np.sort(rng.choice(len(blocks), count, replace=False))
        pixels = np.ascontiguousarray(blocks[chosen].reshape(-1, 2))
        times = [(direct.seconds(pixels), fast.seconds(pixels)) for _ in range(ROUNDS)]
        slow, quick = (float(np.median(part)) * 1e3 for part in zip(*times[2:], strict=True))
        figures.append(Figure(*shape, share, slow, quick, slow / quick, error))
    return figures


def command(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Winograd's method against direct convolution."""
    figures = [figure for shape in SHAPES for figure in measure(shape)]
    table = Table("convolution", "blocks", "direct ms", "Winograd ms", "ratio", "error", title="3x3, stride 1, float32")
    for f in figures:
        name = f"{f.inputs} to {f.outputs}, {f.height}x{f.width}"
        row: list[Any] = [name, f"{f.share:.0%}", f"{f.direct_ms:.3f}", f"{f.winograd_ms:.3f}", f"{f.ratio:.2f}"]
        table.add_row(*row, f"{f.error:.0e}")
    Console().print(table)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
