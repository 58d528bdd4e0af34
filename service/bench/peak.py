"""The measure of the peak: multiply-adds on registers alone, in as many independent sums as hide their latency."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils

from kernels.constants import LANES
from kernels.emit import fma, splat
from kernels.jit import intrinsic, jit
from kernels.target import HOST

# Independent sums: enough to hide the latency, few enough for the registers.
CHAINS = HOST.pixels + HOST.pixels // 4
_ROUNDS = 10_000
_SLICES = 9
_SLICE_S = 2e-3


@intrinsic
def multiply_add_chains(typing_context: Any, count: Any, x: Any, y: Any) -> Any:
    """`count` rounds of sum = sum * x + y on `CHAINS` lane vectors; returns one lane of their total."""

    def codegen(context: Any, b: Any, signature: Any, args: list[Any]) -> Any:
        count, x, y = args
        factor, term = splat(b, x), splat(b, y)
        sums = [cgutils.alloca_once_value(b, splat(b, y)) for _ in range(CHAINS)]
        with cgutils.for_range(b, count):
            for s in sums:
                b.store(fma(b, b.load(s), factor, term), s)
        total = b.load(sums[0])
        for s in sums[1:]:
            total = b.fadd(total, b.load(s))
        return b.extract_element(total, cgutils.int32_t(0))

    return types.float32(types.int64, types.float32, types.float32), codegen


@jit
def chains(count: int) -> float:
    """Run the register-only loop; its result keeps the optimiser from dropping it."""
    return float(multiply_add_chains(count, np.float32(0.5), np.float32(count & 1)))


def chain_operations(count: int) -> int:
    """Floating-point operations of `chains(count)`: a fused multiply-add counts as two."""
    return CHAINS * LANES * 2 * count


def peak_flops(threads: int = 1) -> float:
    """FLOP/s of fused multiply-adds that touch no memory, on so many threads at once, each settled.

    Settled: a CPU lowers its clock for vector code after a while, so the second half of the time counts.
    """
    chains(1)
    begun = time.perf_counter()
    chains(_ROUNDS)
    count = max(_ROUNDS, round(_ROUNDS * _SLICE_S / (time.perf_counter() - begun)))
    rates = [0.0] * threads

    def run(number: int) -> None:
        slices = []
        for _ in range(_SLICES):
            start = time.perf_counter()
            chains(count)
            slices.append(chain_operations(count) / (time.perf_counter() - start))
        rates[number] = float(np.median(slices[_SLICES // 2 :]))

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)
