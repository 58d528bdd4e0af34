"""Softmax over the channels of listed pixels. Knows arrays and ints only."""

from __future__ import annotations

import numpy as np

from kernels.constants import LOWEST, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Map, Test, finish_pixels, memory, raw_of, unchanged
from kernels.simd import (
    address_of,
    lane_add,
    lane_divide,
    lane_fill,
    lane_largest,
    lane_max,
    lane_mul,
    lane_sum,
    make_table,
    read_int,
)
from kernels.simd_softmax import lane_choose, lane_exp

__all__ = ["softmax"]

vectors_table = make_table(2 * VECTOR_BYTES // 8)


@jit
def softmax(
    arena: np.ndarray, source: Map, planes: np.ndarray, live: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """exp(x - largest) / sum over the channels of each listed pixel; compare, write as `convolve` does.

    arena : float32[:]. planes : int64[blocks], element offset of each block from the source's origin.
    live : float32[blocks * 16], 1 for lanes that hold a channel; others count for nothing, and become 0.
    pixels : int32[n, 2], (y, x). scratch : float32[scratch_elements(blocks)]. written : uint8[H, W].

    Returns the number of pixels written. Sums lanes first, block by block, then the 16 lanes in pairs.
    """
    blocks, total, plain = planes.size, 0, unchanged()
    m, lives, top = memory(arena, pixels, scratch, blocks, written), address_of(live), vectors_table()
    sums = top + VECTOR_BYTES
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            entry = m.listed + (start + p) * 8
            at = source.origin + read_int(entry) * source.row + read_int(entry + 4) * source.pixel
            base, raw = m.base + at * 4, raw_of(m, p)
            lane_fill(top, np.float32(LOWEST))
            for b in range(blocks):
                lane = b * VECTOR_BYTES
                lane_choose(raw + lane, base + planes[b] * 4, lives + lane)
                lane_max(top, top, raw + lane)
            largest = lane_largest(top)
            lane_fill(sums, np.float32(0.0))
            for b in range(blocks):
                lane = b * VECTOR_BYTES
                lane_exp(raw + lane, raw + lane, largest)
                lane_mul(raw + lane, raw + lane, lives + lane)
                lane_add(sums, sums, raw + lane)
            whole = lane_sum(sums)
            for b in range(blocks):
                lane_divide(raw + b * VECTOR_BYTES, raw + b * VECTOR_BYTES, whole)
        total += finish_pixels(m, plain, 0, target, start, count, test)
    return total
