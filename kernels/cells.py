"""Cells: the squares of stride x stride outputs that a transposed convolution makes around one input pixel.

An output's *phase* is its place in its cell. Outputs of one phase see the input through the same taps, at the place of
their cell. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES, STORE, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import (
    CHUNK,
    LONG_CHUNK,
    Act,
    Map,
    Memory,
    Test,
    activation,
    address_table,
    are_runs,
    fill_addresses,
    finish_pixels,
    memory,
    raw_of,
    unchanged,
)
from kernels.micro import WIDE_1, dense_8x1, dense_16x1, half_8, half_16, wide_16x1
from kernels.simd import address_of, make_table, read_int, table_set
from kernels.simd_cells import first_lanes
from kernels.simd_half import mark_row
from kernels.target import HALF_PIXELS, PIXELS

__all__ = ["convolve_cells", "list_cells", "sort_by_phase"]

WIDE = WIDE_1 if WIDE_1 % PIXELS == 0 else 0  # whole narrow calls, so that none goes past the tables
results_table = make_table((LONG_CHUNK + 1) * LANES // 2)  # a vector of results for each cell, and one to read past
pixels_table = make_table(CHUNK)


@jit
def list_cells(listed: np.ndarray, block: int, stride: int, height: int, width: int, cells: np.ndarray) -> int:
    """List the cells of outputs that are listed in whole blocks; returns how many.

    listed : int32[n, 2], C-contiguous, (y, x) in blocks as `kernels.masks.list_pixels` has them. block : a multiple of
    the stride, which is a power of two. height, width : of the map in cells. cells : int32[n / stride^2 or more, 2],
    filled with (y, x) along the rows of neighbouring blocks; what was clamped is left out.
    """
    entries, group, count = address_of(listed), block * block, listed.shape[0]
    shift = 0
    while 1 << shift < stride:
        shift += 1
    first, n = 0, 0
    while first < count:
        entry, end = entries + first * 8, first + group
        y, x = read_int(entry), read_int(entry + 4)
        right = x + block
        while end < count and read_int(entries + end * 8) == y and read_int(entries + end * 8 + 4) == right:
            end += group
            right += block
        for row in range(y >> shift, min((y + block) >> shift, height)):
            for column in range(x >> shift, min(right >> shift, width)):
                cells[n, 0], cells[n, 1] = row, column
                n += 1
        first = end
    return n


@jit
def sort_by_phase(
    listed: np.ndarray, rows: np.ndarray, columns: np.ndarray, stride_y: int, stride_x: int, ends: np.ndarray,
    cells: np.ndarray,
) -> None:  # fmt: skip
    """List the cells of any outputs, one phase after another.

    listed : int32[n, 2], (y, x). rows, columns : int32[H], int32[W], the cell of each output row and column.
    ends : int64[phases], set to the end of each phase's cells; those of row p and column q of a cell have number
    p * min(stride_x, W) + q. cells : int32[n, 2], filled with (y, x), in the order of the list within a phase.
    """
    across = min(stride_x, columns.size)
    ends[:] = 0
    for i in range(listed.shape[0]):
        y, x = listed[i, 0], listed[i, 1]
        ends[(y - rows[y] * stride_y) * across + x - columns[x] * stride_x] += 1
    at = 0
    for phase in range(ends.size):
        at, ends[phase] = at + ends[phase], at
    for i in range(listed.shape[0]):
        y, x = listed[i, 0], listed[i, 1]
        phase = (y - rows[y] * stride_y) * across + x - columns[x] * stride_x
        cells[ends[phase], 0], cells[ends[phase], 1] = rows[y], columns[x]
        ends[phase] += 1


@jit
def _mark_cells(m: Memory, first: int, end: int, stride: int) -> int:
    """Mark all pixels of cells first to end - 1; returns how many were not marked before."""
    fresh = 0
    while first < end:
        entry, count = m.listed + first * 8, 1
        y, x = read_int(entry), read_int(entry + 4)
        while first + count < end and read_int(entry + count * 8) == y and read_int(entry + count * 8 + 4) == x + count:
            count += 1
        for row in range(y * stride, (y + 1) * stride):
            fresh += mark_row(m.marks + row * m.marks_row + x * stride, count * stride)
        first += count
    return fresh


@jit
def _store_cells(m: Memory, target: Map, start: int, count: int, stride: int, channels: int, results: int) -> None:
    """Write the outputs of cells start to start + count - 1, whatever is stored."""
    row, pixel = target.row * 4, target.pixel * 4
    for i in range(count):
        entry, result = m.listed + (start + i) * 8, results + i * VECTOR_BYTES
        out = m.base + target.origin * 4 + read_int(entry) * stride * row + read_int(entry + 4) * stride * pixel
        for p in range(stride):
            for q in range(stride):
                first_lanes(out + p * row + q * pixel, result, channels)
                result += channels * 4


@jit
def _test_cells(
    m: Memory, target: Map, start: int, count: int, stride: int, channels: int, test: Test, results: int
) -> int:
    """Write and mark those outputs of cells start to start + count - 1 that pass their test; returns how many."""
    phases, total, listed = stride * stride, 0, pixels_table()
    listing = Memory(m.base, listed, m.scratch, 1, m.marks, m.marks_row, m.marks_pixel)
    together = CHUNK // phases
    for first in range(0, count, together):
        n = 0
        for i in range(first, min(first + together, count)):
            entry, result = m.listed + (start + i) * 8, results + i * VECTOR_BYTES
            for p in range(phases):
                y, x = read_int(entry) * stride + p // stride, read_int(entry + 4) * stride + p % stride
                table_set(listed, n, y | x << 32)
                first_lanes(raw_of(listing, n), result, channels)
                result += channels * 4
                n += 1
        plain, alone = unchanged(), Test(test.mode, test.limit, 1)
        total += finish_pixels(listing, plain, 0, target, 0, n, alone)
    return total


@jit
def convolve_cells(
    arena: np.ndarray, source: Map, taps: np.ndarray, lanes: int, vectors: int, weights: np.ndarray, bias: np.ndarray,
    slope: np.ndarray, target: Map, cells: np.ndarray, stride: int, channels: int, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Transposed convolution of whole cells, all phases at once: for few channels, and phases with the same taps.

    arena : float32[:]. taps : int64[n], byte offsets from a cell's input pixel; each reads `lanes` channels (16 or 8).
    vectors : 1; or 0 for half a vector of results, where `HALF_PIXELS` is not.
    weights : float32[:], [tap][lane][16], or [tap][lane][8]; aligned. Lane (p * stride + q) * channels + c is channel c
        of row p and column q of a cell: stride * stride * channels is 16 (8) at most. bias, slope : float32[16].
    cells : int32[n, 2], C-contiguous, (y, x). scratch : float32[scratch_elements(1)].
    written : uint8[H, W] of 0 and 1, C-contiguous, set to 1 where the target changed.

    Decides pixel by pixel. Lanes without a channel become 0. Returns the number of pixels newly marked. Arithmetic as
    in `kernels.conv.convolve`.
    """
    m, total = memory(arena, cells, scratch, 1, written), 0
    bases, outs, results = address_table(), address_table(), results_table()
    for i in range(LONG_CHUNK):
        table_set(outs, i, results + i * VECTOR_BYTES)
    read, count, w, shift = address_of(taps), taps.size, address_of(weights), address_of(bias)
    finish, step = activation(act, address_of(slope), 0), source.pixel * 4
    for start in range(0, cells.shape[0], LONG_CHUNK):
        n, slot = min(LONG_CHUNK, cells.shape[0] - start), 0
        fill_addresses(m, source, 1, 1, start, n, bases)
        while slot < n:
            base, to = bases + slot * 8, (STORE, outs + slot * 8, 0, 0, 0, 0, 0)
            if vectors == 0:
                if lanes == LANES:
                    half_16(base, read, count, w, shift, finish, to)
                else:
                    half_8(base, read, count, w, shift, finish, to)
                slot += HALF_PIXELS
            elif lanes != LANES:
                dense_8x1(base, read, count, w, shift, finish, to)
                slot += PIXELS
            elif WIDE != 0 and slot + WIDE <= n and are_runs(m, start + slot, WIDE):
                wide_16x1(step, base, read, count, w, shift, finish, to)
                slot += WIDE
            else:
                dense_16x1(base, read, count, w, shift, finish, to)
                slot += PIXELS
        if test.mode == STORE:
            _store_cells(m, target, start, n, stride, channels, results)
            total += n * stride * stride if test.limit < 0 else _mark_cells(m, start, start + n, stride)
        else:
            total += _test_cells(m, target, start, n, stride, channels, test, results)
    return total
