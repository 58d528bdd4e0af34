"""How near direct convolution comes to this machine's peak: `python -m benchmarks.kernels [--json FILE]`.

One thread, CPU time, medians. Peak is a loop of fused multiply-adds on registers alone, measured beside each kernel,
both settled (see `settled_rate`); shares are given as they are and at equal clock. Kernels are called from compiled
code, so that Python's dispatch is not counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from cache.packing import block_groups
from kernels.constants import LANES, RELU, STORE, TEST_RMS
from kernels.conv import convolve
from kernels.jit import jit
from kernels.layout import Act, Map, Test, scratch_elements
from kernels.target import VARIANT
from service.bench.peak import chain_operations, chains

SHAPES = ((56, 64, 64, 3), (28, 128, 128, 3), (56, 96, 96, 3), (56, 64, 128, 1), (28, 128, 256, 1))
LISTS = {"dense": (1, 1.0), "5% of 4x4 blocks": (4, 0.05), "5% of pixels": (1, 0.05)}
MODES = {"STORE": STORE, "TEST_RMS": TEST_RMS}
SLICE_S, BURST_S, ROUNDS = 1e-3, 20e-3, 5


@dataclass(frozen=True)
class Figure:
    """One measurement: edge of the map in pixels, channels, kernel size, list, and how it was written.

    share_of_peak : of the settled peak. share_at_clock : the same, as if the peak ran at the clock the CPU has while
    the kernel runs (see `clock_probe_s`).
    """

    size: int
    inputs: int
    outputs: int
    kernel: int
    listed: str
    pixels: int
    mode: str
    gflops: float
    share_of_peak: float
    share_at_clock: float


@jit
def repeat(
    times: int, arena: Any, source: Map, taps: Any, spans: Any, weights: Any, bias: Any, target: Map, pixels:
    Any, test: Test, scratch: Any, written: Any,
) -> int:  # fmt: skip
    """Call `convolve` (ReLU, stride 1) from compiled code."""
    total, act = 0, Act(RELU, 0.0, 0.0, 0, 0)
    for _ in range(times):
        total += convolve(
            arena, source, taps, spans, LANES, weights, bias, bias, target, pixels, 1, 1, act, test, scratch,
            written
        )  # fmt: skip
    return total


def aligned(count: int) -> np.ndarray:
    """float32[count], zeros, on a 64-byte boundary."""
    array = np.zeros(count + LANES, np.float32)
    skip = (-array.ctypes.data // 4) % LANES
    return array[skip : skip + count]


@jit
def dependent_chain(count: int, seed: int) -> int:
    """Integer multiplications that wait for one another: their time is a number of clock periods."""
    x = np.uint64(seed)
    for i in range(count):
        x = (x * np.uint64(6364136223846793005)) ^ np.uint64(i)
    return int(x)


def clock_probe_s() -> float:
    """Time of a fixed number of clock periods (about 20 us): long while the CPU has lowered its clock.

    Vector code with memory traffic lowers it further than the register-only loop does, and it stays low for about a
    millisecond after.
    """
    start = time.thread_time()
    dependent_chain(20_000, 3)
    return time.thread_time() - start


def settled_rate(run: Callable[[int], object], operations: int) -> tuple[float, float]:
    """FLOP/s of calls that have gone on for a while, and the clock probe among them.

    run : makes that many calls of so many operations.
    """
    times = max(1, int(SLICE_S * 200e9 / operations))
    end = time.perf_counter() + BURST_S
    slices: list[float] = []
    probes: list[float] = []
    while time.perf_counter() < end or len(slices) < 4:
        start = time.thread_time()
        run(times)
        slices.append(operations * times / (time.thread_time() - start))
        probes.append(clock_probe_s())
    half = len(slices) // 2
    return float(np.median(slices[half:])), float(np.median(probes[half:]))


def peak_flops() -> tuple[float, float]:
    """Settled FLOP/s of fused multiply-adds that touch no memory, on one thread, and the clock probe."""
    rounds = 10_000
    return settled_rate(lambda n: chains(n * rounds), chain_operations(rounds))


def rates(run: Callable[[int], object], operations: int) -> tuple[float, float, float]:
    """Medians of FLOP/s, of its share of the peak measured just before, and of that share at the kernel's clock."""
    rows = []
    for _ in range(ROUNDS):
        (peak, peak_probe), (rate, probe) = peak_flops(), settled_rate(run, operations)
        rows.append((rate, rate / peak, rate / peak * probe / peak_probe))
    rate, share, at_clock = np.median(np.array(rows), axis=0).tolist()
    return rate, share, at_clock


def listed_pixels(size: int, block: int, share: float) -> np.ndarray:
    """int32[n, 2], a share of the aligned blocks of a square map in row-major order."""
    edges = np.arange(0, size, block)
    corners = np.array([(y, x) for y in edges for x in edges])
    if share < 1:
        chosen = np.random.default_rng(0).permutation(len(corners))[: max(1, round(len(corners) * share))]
        corners = corners[np.sort(chosen)]
    inner = np.array([(y, x) for y in range(block) for x in range(block)])
    return np.asarray((corners[:, None] + inner).reshape(-1, 2), np.int32)


def convolution(size: int, inputs: int, outputs: int, kernel: int) -> tuple[Any, ...]:
    """Arguments of `repeat` from arena to target for random data, packed as a Plan packs them."""
    rng = np.random.default_rng(0)
    padded = size + 2 * (kernel // 2)
    in_blocks, out_blocks = inputs // LANES, outputs // LANES
    source = Map(0, padded * padded * LANES, padded * LANES, LANES)
    target = Map(in_blocks * source.plane, size * size * LANES, size * LANES, LANES)
    arena = aligned(target.origin + out_blocks * target.plane)
    arena[:] = rng.normal(size=arena.size)
    window = np.add.outer(np.arange(kernel) * source.row, np.arange(kernel) * LANES).reshape(-1)
    taps = (np.add.outer(np.arange(in_blocks) * source.plane, window).reshape(-1) * 4).astype(np.int64)
    weights = aligned(outputs * inputs * kernel * kernel)
    weights[:] = rng.normal(size=weights.size) / np.sqrt(inputs * kernel * kernel)
    per_block = taps.size * LANES * LANES
    spans = [(first, count, 0, taps.size, first * per_block) for first, count in block_groups(out_blocks)]
    return arena, source, taps, np.array(spans, np.int64), weights, aligned(outputs), target


def measure(size: int, inputs: int, outputs: int, kernel: int) -> list[Figure]:
    """Every kind of list in every mode, for one convolution."""
    arguments = convolution(size, inputs, outputs, kernel)
    scratch, written = aligned(scratch_elements(outputs // LANES)), np.zeros((size, size), np.uint8)
    figures = []
    for listed, (block, share) in LISTS.items():
        pixels = listed_pixels(size, block, share)
        operations = 2 * len(pixels) * inputs * outputs * kernel * kernel
        for mode, code in MODES.items():
            test = Test(code, 0.0, block)

            def run(times: int, rest: tuple[Any, ...] = (pixels, test, scratch, written)) -> int:
                return int(repeat(times, *arguments, *rest))

            rate, *shares = rates(run, operations)
            figures.append(Figure(size, inputs, outputs, kernel, listed, len(pixels), mode, rate / 1e9, *shares))
    return figures


def table(figures: list[Figure], peak_gflops: float) -> Table:
    """The figures, one row per convolution and list."""
    drawn = Table(
        title=f"Direct convolution, one thread, {VARIANT}; peak {peak_gflops:.0f} GFLOP/s (share, at its clock)"
    )
    for name in ("map", "channels", "kernel", "listed", "pixels", *MODES):
        drawn.add_column(name, justify="left" if name == "listed" else "right")
    for i in range(0, len(figures), len(MODES)):
        f = figures[i]
        cells = [f"{g.gflops:.0f} ({g.share_of_peak:.0%}, {g.share_at_clock:.0%})" for g in figures[i : i + len(MODES)]]
        drawn.add_row(
            f"{f.size}x{f.size}", f"{f.inputs} to {f.outputs}", f"{f.kernel}x{f.kernel}", f.listed,
            str(f.pixels), *cells, end_section=f.listed == list(LISTS)[-1],
        )  # fmt: skip
    return drawn


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
) -> None:
    """Measure the peak and the kernels, print a table."""
    chains(1)
    dependent_chain(1, 1)
    peak_gflops = float(np.median([peak_flops()[0] for _ in range(ROUNDS)])) / 1e9
    figures = [figure for shape in SHAPES for figure in measure(*shape)]
    Console().print(table(figures, peak_gflops))
    if json_file:
        report = {"variant": VARIANT, "peak_gflops": peak_gflops, "figures": [asdict(f) for f in figures]}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
