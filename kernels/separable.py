"""Depthwise convolution followed by a 1x1 convolution, as one: what is between them is never stored.

A few pixels at a time are convolved channel by channel into work space that stays in the nearest cache, and multiplied
from there. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES, STORE, VECTOR_BYTES
from kernels.conv import dense_pixels, depthwise_pixels, regular_width
from kernels.jit import jit
from kernels.layout import (
    CHUNK,
    WIDEST,
    Act,
    Map,
    Test,
    address_table,
    commit_pixels,
    fill_addresses,
    memory,
    reset_metrics,
)
from kernels.simd import address_of, table_set

__all__ = ["convolve_separable"]

ZEROS = 48
"""float32 at the start of the work space that other kernels need to be zero."""


def work_elements(inputs: int) -> int:
    """float32 elements of work space for so many 16-channel blocks of input."""
    return ZEROS + CHUNK * inputs * LANES


@jit
def convolve_separable(
    arena: np.ndarray, source: Map, planes: np.ndarray, window: np.ndarray, kernels: np.ndarray, first_bias: np.ndarray,
    first_slope: np.ndarray, first_act: Act, stride_y: int, stride_x: int, taps: np.ndarray, spans: np.ndarray,
    lanes: int, weights: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act,
    test: Test, scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Both convolutions at the listed output pixels; activate, compare, write as `convolve` does.

    source, planes, window, kernels, first_bias, first_slope, first_act, stride_y, stride_x : of the depthwise one, the
        arguments of `convolve_depthwise` (window : its taps, kernels : its weights).
    taps : int64[:], byte offsets of what the 1x1 convolution reads: 64 times the number of an input block, and 32 more
        for its upper half.
    spans, lanes, weights, bias, slope, target, pixels, act, test, scratch, written : as in `convolve`.
    work : float32[work_elements(blocks of input)], of which the first 48 are left alone.

    Returns the number of pixels written.
    """
    blocks, inputs, total = bias.size // LANES, planes.size, 0
    bases, between, outs = address_table(), address_table(), address_table()
    m, inner = memory(arena, pixels, scratch, blocks, written), inputs * VECTOR_BYTES
    room, place, always = address_of(work) + ZEROS * 4, Map(0, LANES, 0, 0), Test(STORE, 0.0, 1)
    width, slopes, first_slopes = regular_width(window), address_of(slope), address_of(first_slope)
    all_window, all_kernels, before = address_of(window), address_of(kernels), address_of(first_bias)
    all_taps, all_weights, all_bias = address_of(taps), address_of(weights), address_of(bias)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        fill_addresses(m, source, stride_y, stride_x, start, count, bases)
        fill_addresses(m, target, 1, 1, start, count, outs)
        for i in range(count + WIDEST):
            table_set(between, i, room + min(i, count - 1) * inner)
        reset_metrics(m, test)
        depthwise_pixels(
            m, place, always, start, count, bases, between, (0, 0), source, stride_x, width, planes, all_window,
            window.size, all_kernels, before, first_act, first_slopes,
        )  # fmt: skip
        dense_pixels(
            m, target, test, start, count, between, outs, (0, 0), inner, True, lanes, 1, all_taps, spans, all_weights,
            all_bias, act, slopes,
        )  # fmt: skip
        total += commit_pixels(m, target, start, count, test, outs)
    return total
