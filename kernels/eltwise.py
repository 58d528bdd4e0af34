"""Element-wise work on listed pixels: two maps combined, or one scaled and shifted per channel.

Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import (
    Act,
    Map,
    Test,
    activation,
    address_table,
    chunk_pixels,
    commit_pixels,
    exits,
    fill_addresses,
    memory,
    reset_metrics,
)
from kernels.micro import affine_block, combine_block
from kernels.simd import address_of
from kernels.target import PIXELS

__all__ = ["affine", "combine"]


@jit
def combine(
    op: int, arena: np.ndarray, first: Map, first_planes: np.ndarray, second: Map, second_planes: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Combine two maps at the listed pixels; activate, compare, write as `convolve` does.

    op : ADD, SUB, MUL, MAX or MIN of `kernels.constants`. arena : float32[:].
    first, second : maps; one with row and pixel strides of 0 is broadcast over all pixels.
    first_planes, second_planes : int64[blocks], element offset of each block from its map's origin.
    slope : float32[blocks * 16], read for PReLU alone. pixels : int32[n, 2], (y, x) in the target.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. MAX and MIN give the second value where the two do not compare.
    """
    blocks, total = first_planes.size, 0
    ours, theirs, outs = address_table(), address_table(), address_table()
    m, slopes = memory(arena, pixels, scratch, blocks, written), address_of(slope)
    chunk = chunk_pixels(test)
    for start in range(0, pixels.shape[0], chunk):
        count = min(chunk, pixels.shape[0] - start)
        fill_addresses(m, first, 1, 1, start, count, ours)
        fill_addresses(m, second, 1, 1, start, count, theirs)
        fill_addresses(m, target, 1, 1, start, count, outs)
        reset_metrics(m, test)
        for b in range(blocks):
            finish = activation(act, slopes, b)
            for slot in range(0, count, PIXELS):
                combine_block(
                    op, ours + slot * 8, first_planes[b] * 4, theirs + slot * 8, second_planes[b] * 4, finish,
                    exits(m, target, test, outs, slot, b),
                )  # fmt: skip
        total += commit_pixels(m, target, start, count, test, outs)
    return total


@jit
def affine(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: np.ndarray, shift: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """scale * x + shift at the listed pixels; activate, compare, write as `convolve` does.

    planes : int64[blocks], element offset of each block from the source's origin.
    scale, shift : float32[blocks * 16]. A scale of 1 and a shift of -0.0 keep every bit: an activation alone.
    The rest as in `combine`. Returns the number of pixels written.
    """
    blocks, total = planes.size, 0
    bases, outs = address_table(), address_table()
    scales, shifts = address_of(scale), address_of(shift)
    m, slopes = memory(arena, pixels, scratch, blocks, written), address_of(slope)
    chunk = chunk_pixels(test)
    for start in range(0, pixels.shape[0], chunk):
        count = min(chunk, pixels.shape[0] - start)
        fill_addresses(m, source, 1, 1, start, count, bases)
        fill_addresses(m, target, 1, 1, start, count, outs)
        reset_metrics(m, test)
        for b in range(blocks):
            lane, finish = b * VECTOR_BYTES, activation(act, slopes, b)
            for slot in range(0, count, PIXELS):
                affine_block(
                    bases + slot * 8, planes[b] * 4, scales + lane, shifts + lane, finish,
                    exits(m, target, test, outs, slot, b),
                )  # fmt: skip
        total += commit_pixels(m, target, start, count, test, outs)
    return total
