"""How far the values of a feature map lie apart: the unit of its node's threshold."""

from __future__ import annotations

import math

import numpy as np

from kernels.constants import LANES
from kernels.jit import jit
from kernels.layout import Map

__all__ = ["spread"]

SAMPLES = 1024
"""Pixels that are enough to know a standard deviation by (to a few per cent)."""


@jit
def spread(arena: np.ndarray, source: Map, height: int, width: int, lanes: np.ndarray) -> float:
    """Standard deviation of a blocked map's values, from an even grid of its pixels.

    arena : float32[:]. height, width : of the map in pixels. lanes : int64[C], ascending, block * 16 + lane of each
    channel; others count for nothing. Every second row and column is read, or fewer, up to `SAMPLES` pixels.
    """
    step = 2
    while ((height + step - 1) // step) * ((width + step - 1) // step) > SAMPLES:
        step += 1
    sums, squares = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    total, square, count, first = 0.0, 0.0, 0, 0
    while first < lanes.size:
        block, end = lanes[first] // LANES, first
        while end < lanes.size and lanes[end] // LANES == block:
            end += 1
        sums[:] = 0.0
        squares[:] = 0.0
        for y in range(0, height, step):
            for x in range(0, width, step):
                at = np.uint64(source.origin + block * source.plane + y * source.row + x * source.pixel)
                for lane in range(np.uint64(LANES)):
                    value = np.float64(arena[at + lane])
                    sums[lane] += value
                    squares[lane] += value * value
                count += end - first
        for i in range(first, end):
            total += sums[lanes[i] % LANES]
            square += squares[lanes[i] % LANES]
        first = end
    mean = total / max(count, 1)
    return math.sqrt(max(square / max(count, 1) - mean * mean, 0.0))
