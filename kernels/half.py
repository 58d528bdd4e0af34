"""Maps kept as float16, computed as float32: pixels are expanded for whoever reads them, results rounded and committed.

A *stored* map lies in a stream's store, uint16[:], without a border. Its *staged* twin lies in a float32 arena that
belongs to the thread: a border of zeros that nothing ever writes, and inside it what the step under way needs. Both are
`kernels.layout.Map`s, in elements of their arrays. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES, STORE, TEST_BITS
from kernels.jit import jit
from kernels.layout import Map, Test
from kernels.simd import address_of, read_int
from kernels.simd_half import half_differs, half_distance, half_expand, half_round, mark_row, write_int

__all__ = ["commit_half", "expand_windows", "unpack_half"]

STRETCHES = 4
"""Stretches of a row that are remembered as expanded; more are joined."""
NEAR_PX = 8
"""Columns between two stretches that are expanded rather than remembered."""
STRETCH_WORDS = 1 + 2 * STRETCHES


@jit
def unpack_half(store: np.ndarray, channels: np.ndarray, row: int, pixel: int, out: np.ndarray) -> None:
    """Copy a stored map into a tensor: out[c, y, x] = store[channels[c] + y * row + x * pixel].

    store : uint16[:], float16 values. channels : int64[C], element offset of each channel at (0, 0). row, pixel :
    strides in elements. out : float32[C, H, W], C-contiguous.
    """
    width = out.shape[2]
    vectors = (width + LANES - 1) // LANES
    bits, values = np.zeros(vectors * LANES, np.uint16), np.empty(vectors * LANES, np.float32)
    for c in range(out.shape[0]):
        for y in range(out.shape[1]):
            at = np.uint64(channels[c] + y * row)
            for x in range(np.uint64(width)):
                bits[x] = store[at]
                at += np.uint64(pixel)
            half_expand(address_of(values), address_of(bits), vectors)
            out[c, y, :] = values[:width]


@jit
def _expand_stretch(source: int, stored: Map, blocks: int, to: int, staged: Map, y: int, left: int, right: int) -> None:
    """Columns left to right of a row; in whole vectors, past the last pixel of an interleaved map.

    source, to : byte addresses of store and arena. Those are handed down, for every array that is passed on costs a
    locked count of references.
    """
    to += (staged.origin + y * staged.row + left * staged.pixel) * 4
    source += (stored.origin + y * stored.row + left * stored.pixel) * 2
    vectors = ((right - left + 1) * staged.pixel + LANES - 1) // LANES
    for b in range(blocks):
        half_expand(to + b * staged.plane * 4, source + b * stored.plane * 2, vectors)


@jit
def _nearest(known: int, left: int, right: int) -> tuple[int, int]:
    """The stretch that lies nearest to columns left to right, and how far (0: they meet)."""
    best, least = 0, 1 << 30
    for i in range(read_int(known)):
        at = known + 8 * i
        gap = max(left - read_int(at + 8) - 1, read_int(at + 4) - right - 1, 0)
        if gap < least:
            best, least = i, gap
    return best, least


@jit
def _expand_missing(
    source: int, stored: Map, blocks: int, to: int, staged: Map, y: int, left: int, right: int, known: int
) -> None:
    """Expand what is not known of columns left to right of row y; known : address of int32[STRETCH_WORDS]."""
    i, gap = _nearest(known, left, right)
    at, count = known + 8 * i, read_int(known)
    if gap > NEAR_PX and count < STRETCHES:
        at = known + 8 * count
        write_int(known, count + 1)
        write_int(at + 4, left)
        write_int(at + 8, right)
        _expand_stretch(source, stored, blocks, to, staged, y, left, right)
        return
    first, last = read_int(at + 4), read_int(at + 8)
    if left < first:
        _expand_stretch(source, stored, blocks, to, staged, y, left, first - 1)
        write_int(at + 4, left)
    if right > last:
        _expand_stretch(source, stored, blocks, to, staged, y, last + 1, right)
        write_int(at + 8, right)


@jit
def _run_end(listed: int, first: int, count: int, block: int) -> int:
    """The entry after a run of listed blocks side by side that begins at entry `first`, of `count` in all.

    listed : address of the entries.
    """
    group = block * block
    end, at = first + group, listed + first * 8
    y, x = read_int(at), read_int(at + 4) + block
    while end < count and read_int(listed + end * 8) == y and read_int(listed + end * 8 + 4) == x:
        end += group
        x += block
    return min(end, count)


@jit
def expand_windows(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, row_low: np.ndarray,
    row_high: np.ndarray, row_step: int, col_low: np.ndarray, col_high: np.ndarray, listed: np.ndarray, block: int,
    known: np.ndarray,
) -> None:  # fmt: skip
    """Stage all pixels of a map that listed outputs read, and that are not known to be staged.

    store : uint16[:], float16 values. arena : float32[:]. blocks : of the map, 1 where it is interleaved.
    row_low, row_high : int32[Hout], first and last input row of each output row; low > high is an empty range.
        row_step : distance between the rows read. col_low, col_high : the same of columns, int32[Wout]; all between
        first and last are staged.
    listed : int32[n, 2], C-contiguous, (y, x) of outputs, in blocks of `block` as `kernels.masks.list_pixels` has them.
    known : int32[Hin, STRETCH_WORDS], per row of the map: how many stretches of it are staged, first and last column of
        each.
    """
    source, to, entries, stretches = address_of(store), address_of(arena), address_of(listed), address_of(known)
    first, count = 0, listed.shape[0]
    while first < count:
        end = _run_end(entries, first, count, block)
        corner, opposite = entries + first * 8, entries + (end - 1) * 8
        left, right = np.int64(1 << 30), np.int64(-1)
        for x in range(read_int(corner + 4), read_int(opposite + 4) + 1):
            low, high = np.int64(col_low[x]), np.int64(col_high[x])
            if low <= high:
                left, right = min(left, low), max(right, high)
        if left <= right:
            for y in range(read_int(corner), read_int(opposite) + 1):
                for row in range(np.int64(row_low[y]), np.int64(row_high[y]) + 1, row_step):
                    here = stretches + row * STRETCH_WORDS * 4
                    _expand_missing(source, stored, blocks, to, staged, row, int(left), int(right), here)
        first = end


@jit
def _round_rows(
    source: int, staged: Map, blocks: int, to: int, stored: Map, listed: int, first: int, end: int, refresh: bool,
    marks: int, marks_row: int,
) -> int:  # fmt: skip
    """Write and mark the rectangle from entry `first` to entry end - 1; returns how many pixels were not marked."""
    corner, opposite = listed + first * 8, listed + (end - 1) * 8
    left, fresh = read_int(corner + 4), 0
    count = read_int(opposite + 4) - left + 1
    for y in range(read_int(corner), read_int(opposite) + 1):
        new = source + (staged.origin + y * staged.row + left * staged.pixel) * 4
        old = to + (stored.origin + y * stored.row + left * stored.pixel) * 2
        for b in range(blocks):
            half_round(old + b * stored.plane * 2, new + b * staged.plane * 4, count)
            if refresh:
                half_expand(new + b * staged.plane * 4, old + b * stored.plane * 2, count)
        fresh += mark_row(marks + y * marks_row + left, count)
    return fresh


@jit
def _passes(
    source: int, staged: Map, blocks: int, to: int, stored: Map, listed: int, first: int, end: int, rule: Test
) -> bool:
    """Whether any pixel from entry `first` to entry end - 1 asks for a write."""
    limit = np.float32(rule.limit)
    for p in range(first, end):
        y, x = read_int(listed + p * 8), read_int(listed + p * 8 + 4)
        new = source + (staged.origin + y * staged.row + x * staged.pixel) * 4
        old = to + (stored.origin + y * stored.row + x * stored.pixel) * 2
        if rule.mode == TEST_BITS:
            if half_differs(new, staged.plane * 4, old, stored.plane * 2, blocks):
                return True
        elif not (half_distance(new, staged.plane * 4, old, stored.plane * 2, blocks) <= limit):  # a NaN asks too
            return True
    return False


@jit
def commit_half(
    arena: np.ndarray, staged: Map, blocks: int, store: np.ndarray, stored: Map, listed: np.ndarray, rule: Test,
    refresh: bool, written: np.ndarray,
) -> int:  # fmt: skip
    """Round the staged values of listed pixels to float16, write those that pass their test, and mark them.

    Values beyond 65504 become 65504, of their sign. What is compared with the stored value is the rounded one.
    refresh : whether what is written replaces the staged value too.
    arena : float32[:]. store : uint16[:]. listed : int32[n, 2], C-contiguous, (y, x), whole blocks of `rule.block`
    squared pixels in a row, clamped at the map's end. written : uint8[H, W] of 0 and 1. Returns the number of pixels
    newly marked.
    """
    source, to, entries, marks = address_of(arena), address_of(store), address_of(listed), address_of(written)
    group, first, total, count, marks_row = rule.block * rule.block, 0, 0, listed.shape[0], written.strides[0]
    while first < count:
        if rule.mode == STORE:
            end, passes = _run_end(entries, first, count, rule.block), True
        else:
            end = min(first + group, count)
            passes = _passes(source, staged, blocks, to, stored, entries, first, end, rule)
        if passes:
            total += _round_rows(source, staged, blocks, to, stored, entries, first, end, refresh, marks, marks_row)
        first = end
    return total
