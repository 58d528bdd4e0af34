"""3x3 convolution of listed 4x4 blocks by Winograd's F(4x4, 3x3): a quarter of the multiplications of `kernels.conv`.

36 products of matrices replace nine taps of 16 pixels; the micro-kernel of the 1x1 convolution computes them, with
blocks in the place of pixels. Blocks lie on a fixed grid and are computed each for itself, so that a block's bits do
not depend on which others are listed. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import IDENTITY, LANES, STORE, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Memory, Test, address_table, finish_pixels, memory
from kernels.micro import WIDE_2, dense_16x1, dense_16x2, dense_16x3, wide_16x2
from kernels.simd import address_of, lane_copy, read_int, table_set, winograd_input, winograd_output
from kernels.target import PIXELS

__all__ = ["convolve_winograd"]

POINTS = 36
TILES = 24
"""Blocks that are computed together: a multiple of every CPU's pixels per call."""
TILE_PIXELS = 16
ZEROS = 48
"""Zeros at the start of the work space: the bias of products."""


def work_elements(inputs: int, outputs: int) -> int:
    """float32 elements of work space for so many 16-channel blocks of input and output."""
    return ZEROS + POINTS * TILES * (inputs + outputs) * LANES


@jit
def _multiply(
    step: int, bases: int, taps: int, point_taps: int, spans: np.ndarray, weights: int, point_weights: int, zeros: int,
    outs: int, tiles: int,
) -> None:  # fmt: skip
    """For each of the 36 points: the products of all blocks, one group of output blocks after another.

    step : bytes between the products of two points. point_taps, point_weights : taps and weights of one.
    """
    plain = (IDENTITY, np.float32(0), np.float32(0), zeros, 0, 0)
    for point in range(POINTS):
        for g in range(spans.shape[0]):
            first, vectors, tap, count = spans[g, 0], spans[g, 1], spans[g, 2], spans[g, 3]
            read = taps + (point * point_taps + tap) * 8
            w = weights + (point * point_weights + spans[g, 4]) * 4
            shift, slot = point * step + first * VECTOR_BYTES, 0
            while slot < tiles:
                base, at = bases + slot * 8, (STORE, outs + slot * 8, shift, VECTOR_BYTES, 0, 0, 0)
                if vectors == 2 and WIDE_2 != 0 and tiles - slot > PIXELS and slot + WIDE_2 <= TILES:
                    wide_16x2(VECTOR_BYTES, base, read, count, w, zeros, plain, at)
                    slot += WIDE_2
                    continue
                if vectors == 3:
                    dense_16x3(base, read, count, w, zeros, plain, at)
                elif vectors == 2:
                    dense_16x2(base, read, count, w, zeros, plain, at)
                else:
                    dense_16x1(base, read, count, w, zeros, plain, at)
                slot += PIXELS


@jit
def _unclamp(m: Memory, first: int, rows: int, row: int) -> None:
    """Entries of a block past the map's end stand for the last pixel: give them its value."""
    listed = m.listed + first * 8
    top, left = read_int(listed), read_int(listed + 4)
    if read_int(listed + 15 * 8) == top + 3 and read_int(listed + 15 * 8 + 4) == left + 3:
        return
    for i in range(TILE_PIXELS):
        meant = (read_int(listed + i * 8) - top) * 4 + read_int(listed + i * 8 + 4) - left
        if meant != i:
            for lane in range(0, row, VECTOR_BYTES):
                lane_copy(rows + i * row + lane, rows + meant * row + lane)


@jit
def convolve_winograd(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, spans: np.ndarray, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve 3x3, stride 1, at the listed blocks, activate, compare with the stored values, write what passes.

    arena : float32[:], holds source and target maps; the source's border of zeros reaches one pixel around every whole
        block, also where the map ends within it.
    planes : int64[inputs], element offset of each input block from the source's origin.
    taps : int64[36 * n], byte offsets into the transformed inputs [36][inputs][24][16], for each of the 36 points.
    spans : int64[groups, 5], as in `kernels.conv.convolve`, for one point. weights : float32[36 * m], transformed, per
        point and group [tap][lane][block][16]; 64-byte aligned.
    pixels : int32[n, 2], (y, x) in the target, blocks of 4 x 4 on the grid of four, row-major, clamped to the map.
    work : float32[work_elements(inputs, blocks)] or more, its first 48 zero. test.block : 4.

    Other arguments and the result as in `convolve`.
    """
    inputs, blocks = planes.size, bias.size // 16
    bases, outs = address_table(), address_table()
    zeros, row = address_of(work), blocks * VECTOR_BYTES
    transformed, input_step = zeros + ZEROS * 4, inputs * TILES * VECTOR_BYTES
    products, output_step = transformed + POINTS * input_step, TILES * blocks * VECTOR_BYTES
    for t in range(TILES):
        table_set(bases, t, transformed + t * VECTOR_BYTES)
        table_set(outs, t, products + t * row)
    m, slopes, all_bias = memory(arena, pixels, scratch, blocks, written), address_of(slope), address_of(bias)
    all_taps, all_weights = address_of(taps), address_of(weights)
    tiles, total = pixels.shape[0] // TILE_PIXELS, 0
    for start in range(0, tiles, TILES):
        count = min(TILES, tiles - start)
        for t in range(count):
            first = m.listed + (start + t) * TILE_PIXELS * 8
            corner = m.base + (source.origin + read_int(first) * source.row + read_int(first + 4) * source.pixel) * 4
            for i in range(inputs):
                winograd_input(
                    corner + planes[i] * 4, source.row * 4, transformed + (i * TILES + t) * VECTOR_BYTES, input_step
                )
        _multiply(
            output_step, bases, all_taps, taps.size // POINTS, spans, all_weights, weights.size // POINTS, zeros, outs,
            count,
        )  # fmt: skip
        for part in range(0, count, CHUNK // TILE_PIXELS):
            some = min(CHUNK // TILE_PIXELS, count - part)
            for t in range(some):
                rows = m.scratch + t * TILE_PIXELS * row
                for b in range(blocks):
                    lane = b * VECTOR_BYTES
                    winograd_output(products + (part + t) * row + lane, output_step, all_bias + lane, rows + lane, row)
                _unclamp(m, (start + part + t) * TILE_PIXELS, rows, row)
            total += finish_pixels(m, act, slopes, target, (start + part) * TILE_PIXELS, some * TILE_PIXELS, test)
    return total
