"""Large filters by Fourier transforms against direct convolution and ONNX Runtime: `python -m benchmarks.fft`.

One convolution at a time, compiled both ways, timed in turn on the same input: whole frames, and the lists that a
change of a tenth of the map makes. Medians; errors are the largest difference over the direct result's largest
magnitude. The approximate mode (`Policy.fft_kept`) is measured on random filters, whose spectra are flat, and on smooth
ones.
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

from cache import fft
from cache.onnx_import import load_model
from cache.plan import Plan, every_pixel
from cache.policy import Policy
from cache.session import Session
from cache.steps import Method
from kernels.constants import STORE
from kernels.layout import Test
from service.bench.document import markdown_table, replaced
from service.bench.machine import machine

MAPS = {"each channel by itself": ((7, 9, 15, 31), ((56, 128), (112, 64))), "all with all": ((7, 9, 15), ((56, 64),))}
SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)
CHANGED = 0.1
"""Of the map, in one square."""
WARM = 2


@dataclass(frozen=True)
class Figure:
    """One layer. ms : of a whole frame, by the threads it may use; listed_ms : of a tenth of the map, one thread.

    ratio, listed_ratio : above 1, transforms are faster than direct convolution (the step alone, on one thread).
    error : of the transforms; onnxruntime_error : of ONNX Runtime, likewise.
    """

    kind: str
    kernel: int
    size: int
    channels: int
    tile: int
    direct_ms: dict[int, float]
    fft_ms: dict[int, float]
    onnxruntime_ms: dict[int, float]
    ratio: float
    direct_listed_ms: float
    fft_listed_ms: float
    listed_ratio: float
    weights_mb: float
    error: float
    onnxruntime_error: float


@dataclass(frozen=True)
class Approximation:
    """A share of the frequencies. error : root mean square of the difference over that of the direct result."""

    kind: str
    kernel: int
    filters: str
    kept: float
    ms: float
    weights_mb: float
    error: float


def filters(channels: int, inputs: int, kernel: int, smooth: bool) -> np.ndarray:
    """float32[channels, inputs, kernel, kernel] that keep values near 1: random, or random sums of broad bells."""
    rng = np.random.default_rng(0)
    found = rng.standard_normal((channels, inputs, kernel, kernel))
    if smooth:
        axis = np.arange(kernel) - kernel // 2
        blur = np.exp(-((axis[:, None] - axis) ** 2) / (2 * (kernel / 10) ** 2))
        found = blur @ found @ blur.T
    scale = np.sqrt(np.square(found).sum(axis=(1, 2, 3), keepdims=True))
    return (found / scale).astype(np.float32)


def model(size: int, channels: int, kernel: int, grouped: bool, smooth: bool = False) -> bytes:
    """One convolution."""
    weight = filters(channels, 1 if grouped else channels, kernel, smooth)
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(channels, np.float32), "b")]
    pads = [kernel // 2] * 4
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads, group=channels if grouped else 1)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, size, size]) for name in "xy"]
    graph = helper.make_graph([node], "one convolution", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


class Subject:
    """The convolution by one method, its input in place."""

    def __init__(self, data: bytes, x: np.ndarray, policy: Policy, threads: int = 1) -> None:
        self.plan = Plan.compile(load_model(data), policy=policy)
        self.session = Session(self.plan, exact=True, threads=threads)
        self.result = self.session.push_tensor(x).outputs["y"].copy()
        self.step = next(s.step for s in self.plan.steps if s.step.op == "conv")

    @property
    def method(self) -> Method:
        """By transforms, where the plan has them."""
        ways = [way for way in (self.step.method, self.step.few) if way is not None]
        return max(ways, key=lambda way: way.grain)

    def whole(self) -> None:
        """Every pixel, on one thread."""
        self.listed(every_pixel(self._target.height, self._target.width, self.method.grain))

    def listed(self, pixels: np.ndarray) -> None:
        """These pixels, whole blocks of the method."""
        self.session._state.compute(self.method, pixels, Test(STORE, 0.0, self.method.grain))

    def changed(self) -> np.ndarray:
        """Pixels of all blocks that a square in the middle, a tenth of the map, touches."""
        height, width, grain = self._target.height, self._target.width, max(self.method.grain, 4)
        side = round(np.sqrt(height * width * CHANGED))
        blocks = every_pixel(height, width, grain).reshape(-1, grain * grain, 2)
        low = np.array([(height - side) // 2, (width - side) // 2])
        touched = ((blocks >= low) & (blocks < low + side)).all(axis=2).any(axis=1)
        return np.ascontiguousarray(blocks[touched].reshape(-1, 2))

    @property
    def _target(self) -> Any:
        return self.plan.maps[self.step.target]


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, all in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + WARM):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= WARM:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) * 1e3 for name, found in times.items()}


def runtime(data: bytes, x: np.ndarray, threads: int) -> Callable[[], Any]:
    """A call of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def again(subject: Subject, x: np.ndarray) -> Callable[[], Any]:
    """A whole frame of a session that has forgotten the last one."""

    def call() -> None:
        subject.session.reset()
        subject.session.push_tensor(x)

    return call


def measure(kind: str, kernel: int, size: int, channels: int, rounds: int, threads: tuple[int, ...]) -> Figure:
    """A layer, both ways and by ONNX Runtime."""
    data = model(size, channels, kernel, kind in tuple(MAPS)[:1])
    x = np.random.default_rng(1).standard_normal((1, channels, size, size)).astype(np.float32)
    direct, fast = Subject(data, x, Policy(fft_kept=0.0)), Subject(data, x, Policy())
    lists = direct.changed(), fast.changed()
    found = medians(
        {
            "direct": direct.whole, "fft": fast.whole, "direct listed": lambda: direct.listed(lists[0]),
            "fft listed": lambda: fast.listed(lists[1]),
        }, rounds,
    )  # fmt: skip
    frames: dict[str, dict[int, float]] = {"direct": {}, "fft": {}, "onnxruntime": {}}
    for count in threads:
        calls = {
            "direct": again(Subject(data, x, Policy(fft_kept=0.0), count), x),
            "fft": again(Subject(data, x, Policy(), count), x),
            "onnxruntime": runtime(data, x, count),
        }
        for name, ms in medians(calls, rounds).items():
            frames[name][count] = ms
    other, largest = runtime(data, x, 1)()[0], np.abs(direct.result).max()
    errors = [float(np.abs(found - direct.result).max() / largest) for found in (fast.result, other)]
    return Figure(
        kind, kernel, size, channels, fast.method.grain, frames["direct"], frames["fft"], frames["onnxruntime"],
        found["direct"] / found["fft"], found["direct listed"], found["fft listed"],
        found["direct listed"] / found["fft listed"], fast.method.weight_bytes / 2**20,
        *errors,
    )  # fmt: skip


def approximate(kind: str, kernel: int, size: int, channels: int, rounds: int) -> list[Approximation]:
    """Shares of the spectrum, on both kinds of filters."""
    found = []
    for smooth in (False, True):
        data = model(size, channels, kernel, kind in tuple(MAPS)[:1], smooth)
        x = np.random.default_rng(1).standard_normal((1, channels, size, size)).astype(np.float32)
        direct = Subject(data, x, Policy(fft_kept=0.0)).result
        subjects = {kept: Subject(data, x, Policy(fft_kept=kept)) for kept in SHARES}
        times = medians({str(kept): subject.whole for kept, subject in subjects.items()}, rounds)
        for kept, subject in subjects.items():
            error = float(np.sqrt(np.square(subject.result - direct).mean() / np.square(direct).mean()))
            megabytes = subject.method.weight_bytes / 2**20
            name = "smooth" if smooth else "random"
            found.append(Approximation(kind, kernel, name, kept, times[str(kept)], megabytes, error))
    return found


def layers_table(figures: list[Figure]) -> list[list[str]]:
    """Head and rows."""
    threads = sorted(figures[0].direct_ms)
    head = ["layer", "tile"]
    for count in threads:
        head += [f"{name} ms, {count} thr." for name in ("direct", "FFT", "ORT")]
    rows = [[*head, "ratio", "a tenth: direct ms", "FFT ms", "ratio", "spectra MB", "error", "ORT's"]]
    for f in figures:
        row = [f"{f.kind}, {f.kernel}x{f.kernel}, {f.size}x{f.size}x{f.channels}", str(f.tile)]
        for count in threads:
            row += [f"{times[count]:.2f}" for times in (f.direct_ms, f.fft_ms, f.onnxruntime_ms)]
        row += [f"{f.ratio:.2f}", f"{f.direct_listed_ms:.3f}", f"{f.fft_listed_ms:.3f}", f"{f.listed_ratio:.2f}"]
        rows.append([*row, f"{f.weights_mb:.1f}", f"{f.error:.0e}", f"{f.onnxruntime_error:.0e}"])
    return rows


def shares_table(found: list[Approximation]) -> list[list[str]]:
    """Head and rows."""
    rows = [["layer", "filters", "kept", "ms", "spectra MB", "error (rms)"]]
    for a in found:
        layer = f"{a.kind}, {a.kernel}x{a.kernel}"
        rows.append([layer, a.filters, f"{a.kept:.0%}", f"{a.ms:.2f}", f"{a.weights_mb:.1f}", f"{a.error:.1e}"])
    return rows


def section(rows: list[list[str]]) -> str:
    """What stands between markers of docs/techniques/fft.md."""
    return f"Machine: {machine()['cpu']}.\n\n{markdown_table(rows[0], rows[1:])}"


def command(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    document: Annotated[Path | None, typer.Option("--doc", help="Document whose tables are rewritten.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls of each.")] = 15,
    largest: Annotated[int, typer.Option(min=1, help="Rows of the largest map that is measured.")] = 112,
    threads: Annotated[int, typer.Option(min=1, help="Most threads.")] = 2,
) -> None:
    """Fourier transforms against direct convolution."""
    if not fft.is_there():
        raise SystemExit("expected rocket-fft (the extra `fft`), which is not installed")
    fft.direct_ns = lambda made: float("inf")  # every layer is measured, also where direct convolution surely wins
    figures, shares = [], []
    for kind, (kernels, maps) in MAPS.items():
        maps = tuple(m for m in maps if m[0] <= largest) or ((largest, 16),)
        for size, channels in maps:
            figures += [measure(kind, k, size, channels, rounds, tuple(range(1, threads + 1))) for k in kernels]
        shares += approximate(kind, kernels[-1], *maps[0], rounds)
    for rows, title in ((layers_table(figures), "layers"), (shares_table(shares), "approximate mode")):
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        Console(width=240).print(table)
    if json_path is not None:
        report = {"layers": [asdict(f) for f in figures], "shares": [asdict(a) for a in shares]}
        json_path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        text = replaced(document.read_text(encoding="utf-8"), "fft", section(layers_table(figures)))
        text = replaced(text, "fft-kept", section(shares_table(shares)))
        document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
