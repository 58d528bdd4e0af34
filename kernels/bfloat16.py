"""Convolution of listed output pixels in bfloat16: inputs rounded once per chunk of pixels, float32 sums.

The way of `kernels.conv`, but that a chunk's inputs are first gathered, tap by tap, into a work space, as pairs of
bfloat16. For CPUs with instructions for it (`kernels.emit_bfloat16.HAS_BFLOAT16`). Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES, VECTOR_BYTES
from kernels.emit_bfloat16 import HAS_BFLOAT16, TAP_BYTES
from kernels.jit import jit
from kernels.layout import (
    CHUNK,
    Act,
    Map,
    Test,
    activation,
    address_table,
    commit_pixels,
    exits,
    fill_addresses,
    memory,
    reset_metrics,
)
from kernels.simd import address_of, table_get
from kernels.simd_bfloat16 import narrow_taps, products_1, products_2, products_3
from kernels.target import PIXELS

__all__ = ["convolve_bfloat16"] if HAS_BFLOAT16 else []

ZEROS = 48
"""float32 at the start of the work space that are not ours (see `kernels.winograd`)."""


def work_elements(taps: int) -> int:
    """float32 elements of work space for a convolution of so many taps."""
    return ZEROS + CHUNK * taps * TAP_BYTES // 4


@jit
def convolve_bfloat16(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int, act: Act, test: Test,
    scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve at the listed output pixels, activate, compare with the stored values, write what passes.

    taps : int64[:], byte offsets from a pixel's input corner, of 16 channels each; every group of outputs sees all.
    spans : int64[groups, 3], per group of output blocks: first block, blocks (1 to 3), first weight in float32.
    weights : the bits of bfloat16[tap][8][block][16][2] per group, as float32[:]; 64-byte aligned.
    work : float32[work_elements(taps)] or more.

    Other arguments and the result as in `kernels.conv.convolve`. Inputs are rounded to the nearest bfloat16; sums are
    float32, per output in the order of the taps.
    """
    blocks, total = bias.size // LANES, 0
    bases, outs = address_table(), address_table()
    m, slopes, all_taps = memory(arena, pixels, scratch, blocks, written), address_of(slope), address_of(taps)
    all_weights, all_bias = address_of(weights), address_of(bias)
    gathered, count_taps = address_of(work) + ZEROS * 4, taps.size
    step = count_taps * TAP_BYTES
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        fill_addresses(m, source, stride_y, stride_x, start, count, bases)
        fill_addresses(m, target, 1, 1, start, count, outs)
        reset_metrics(m, test)
        calls = (count + PIXELS - 1) // PIXELS
        for i in range(calls * PIXELS):
            narrow_taps(gathered + i * step, table_get(bases, i), all_taps, count_taps)
        for g in range(spans.shape[0]):
            first, vectors = spans[g, 0], spans[g, 1]
            w, shift = all_weights + spans[g, 2] * 4, all_bias + first * VECTOR_BYTES
            finish = activation(act, slopes, first)
            for slot in range(0, calls * PIXELS, PIXELS):
                read, to = gathered + slot * step, exits(m, target, test, outs, slot, first)
                if vectors == 3:
                    products_3(read, step, count_taps, w, shift, finish, to)
                elif vectors == 2:
                    products_2(read, step, count_taps, w, shift, finish, to)
                else:
                    products_1(read, step, count_taps, w, shift, finish, to)
        total += commit_pixels(m, target, start, count, test, outs)
    return total
