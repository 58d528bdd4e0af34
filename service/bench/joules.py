"""What a frame costs in joules, where no meter tells: an estimate from multiply-accumulates and bytes, labelled as one.

Figures of M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, for a 45 nm chip at
0.9 V: they compare ways of computing the same thing, and say nothing of a whole machine, which also pays for
instructions, for leakage and for waiting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.plan import Plan
from cache.steps import Method
from service.bench.im2col_network import Im2colNetwork

MAC_PJ = 3.7 + 0.9
"""A float32 multiplication and addition."""
HALF_MAC_PJ = 1.1 + 0.9
"""A product of 16 bits, added to a sum of 32."""
CACHE_PJ = 100 / 8
"""A byte of a cache of 1 MB."""
MEMORY_PJ = 1300 / 8
"""A byte of DRAM, at the lower end of what is given for it."""
CACHE_BYTES = 1 << 20
"""An array above this size is taken to come from DRAM and to go there."""
WINOGRAD = 36 / (16 * 9)
"""Products of F(4x4, 3x3) over those of the direct method; its transforms are additions, and are not counted."""
MODEL = (
    f"estimated: {MAC_PJ:g} pJ for a float32 multiply-accumulate ({HALF_MAC_PJ:g} for one of bfloat16 with a float32 "
    f"sum), {CACHE_PJ:g} pJ for a byte of an array of up to 1 MiB, {MEMORY_PJ:g} for one of a larger array (Horowitz "
    "2014, 45 nm); instructions, leakage and waiting are left out"
)


def moved_pj(arrays: Iterable[float]) -> float:
    """Of reading or writing arrays of so many bytes once each."""
    return sum(size * (CACHE_PJ if size <= CACHE_BYTES else MEMORY_PJ) for size in arrays)


@dataclass(frozen=True)
class PlanCost:
    """pJ of each step of a plan, float64[steps]: its work and its maps, all of it done, and its weights.

    work, partial : where a step is done whole, and for each whole of it where only some of it is: short lists may be
    computed by another method, and the dearer of the two counts. frame : of reading a frame and what it is compared
    with.
    """

    work: NDArray[np.float64]
    partial: NDArray[np.float64]
    weights: NDArray[np.float64]
    frame: float

    def joules(self, shares: NDArray[np.float64]) -> float:
        """Of a frame of which these shares of the steps were done, float64[steps]. Weights are read once or not."""
        work = np.where(shares < 1, self.partial, self.work)
        return float(work @ shares + self.weights @ (shares > 0) + self.frame) * 1e-12


def plan_cost(plan: Plan, exact: bool = False) -> PlanCost:
    """Of a plan's steps.

    exact : whether the session is: short lists are then computed as whole maps are.
    """
    item = 2 if plan.policy.cache_dtype == "float16" else 4
    sizes = [(m.height * m.width * (16 * m.blocks or m.pixel)) * item for m in plan.maps]
    work, partial, weights = (np.zeros(len(plan.steps)) for _ in range(3))
    for number, planned in enumerate(plan.steps):
        step = planned.step
        maps = [sizes[index] for index in dict.fromkeys((*(read.map for read in step.reads), step.target))]
        whole = computed_pj(step.method, step.macs)
        some = whole if exact or step.few is None else max(whole, computed_pj(step.few, step.macs))
        work[number] = whole + moved_pj(maps)
        partial[number] = some + moved_pj(maps)
        weights[number] = moved_pj([step.method.weight_bytes])
    return PlanCost(work, partial, weights, moved_pj([plan.height * plan.width * plan.channels] * 2))


def computed_pj(method: Method, macs: int) -> float:
    """Of a whole map that stands for so many multiply-accumulates, beside reading and writing maps and weights.

    Of Fourier transforms: their operations, the products of spectra, and what is written and read in between.
    """
    if method.effort is None:
        return macs * product_pj(method)
    return method.effort.macs * MAC_PJ + sum(times * moved_pj([size]) for size, times in method.effort.arrays)


def product_pj(method: Method) -> float:
    """Of each multiply-accumulate that a step stands for, by the method that computes it."""
    name = method.entry.name
    if "winograd" in name:
        return MAC_PJ * WINOGRAD
    return HALF_MAC_PJ if "bfloat16" in name else MAC_PJ


def im2col_joules(network: Im2colNetwork) -> float:
    """Of a frame: every map once for each that reads or writes it, columns and padded inputs written and read."""
    total = 0.0
    for part in network.parts:
        total += moved_pj([*(source.nbytes for source in part.sources), part.out.nbytes])
        if part.product is not None:
            extra = [part.product.matrix_bytes, part.product.padded_bytes]
            total += part.product.macs * MAC_PJ + moved_pj([*extra, *extra, part.product.weight_bytes])
    return total * 1e-12
