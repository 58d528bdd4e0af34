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
from kernels.simd_half import half_differs, half_distance, half_expand, half_round

__all__ = ["commit_half", "expand_windows", "unpack_half"]

STRETCHES = 4
"""Stretches of a row that are remembered as expanded; more are joined."""
NEAR_PX = 8
"""Columns between two stretches that are expanded rather than remembered."""
STRETCH_WORDS = 1 + 2 * STRETCHES


@jit
def unpack_half(store: np.ndarray, channels: np.ndarray, row: int, pixel: int, out: np.ndarray) -> None:
    """Copy a stored map into a tensor: out[c, y, x] = store[channels[c] + y * row + x * pixel].

    store : uint16[:], float16 values. channels : int64[C], element offset of each channel at (0, 0). row, pixel : strides
    in elements. out : float32[C, H, W], C-contiguous.
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
            half_expand(values.ctypes.data, bits.ctypes.data, vectors)
            out[c, y, :] = values[:width]


@jit
def _expand_stretch(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, y: int, left: int, right: int
) -> None:
    """Columns left to right of a row; in whole vectors, past the last pixel of an interleaved map."""
    to = arena.ctypes.data + (staged.origin + y * staged.row + left * staged.pixel) * 4
    source = store.ctypes.data + (stored.origin + y * stored.row + left * stored.pixel) * 2
    vectors = ((right - left + 1) * staged.pixel + LANES - 1) // LANES
    for b in range(blocks):
        half_expand(to + b * staged.plane * 4, source + b * stored.plane * 2, vectors)


@jit
def _nearest(known: np.ndarray, left: int, right: int) -> tuple[int, int]:
    """The stretch that lies nearest to columns left to right, and how far (0: they meet)."""
    best, least = 0, np.int64(1 << 30)
    for i in range(known[0]):
        gap = max(np.int64(left) - known[2 + 2 * i] - 1, known[1 + 2 * i] - np.int64(right) - 1, 0)
        if gap < least:
            best, least = i, gap
    return best, least


@jit
def _expand_missing(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, y: int, left: int, right: int,
    known: np.ndarray,
) -> None:  # fmt: skip
    """Expand what is not known of columns left to right of row y; known : int32[STRETCH_WORDS]."""
    i, gap = _nearest(known, left, right)
    if gap > NEAR_PX and known[0] < STRETCHES:
        i = known[0]
        known[0] += 1
        known[1 + 2 * i], known[2 + 2 * i] = left, right
        _expand_stretch(store, stored, blocks, arena, staged, y, left, right)
        return
    first, last = known[1 + 2 * i], known[2 + 2 * i]
    if left < first:
        _expand_stretch(store, stored, blocks, arena, staged, y, left, first - 1)
        known[1 + 2 * i] = left
    if right > last:
        _expand_stretch(store, stored, blocks, arena, staged, y, last + 1, right)
        known[2 + 2 * i] = right


@jit
def _run_end(listed: np.ndarray, first: int, group: int, block: int) -> int:
    """The entry after a run of listed blocks side by side that begins at entry `first`."""
    end = first + group
    while (
        end < listed.shape[0]
        and listed[end, 0] == listed[first, 0]
        and listed[end, 1] == listed[end - group, 1] + block
    ):
        end += group
    return min(end, listed.shape[0])


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
    listed : int32[n, 2], (y, x) of outputs, as `kernels.masks.list_pixels` lists them in blocks of `block`.
    known : int32[Hin, STRETCH_WORDS], per row of the map: how many stretches of it are staged, first and last column of
        each.
    """
    first = 0
    while first < listed.shape[0]:
        end = _run_end(listed, first, block * block, block)
        left, right = np.int64(1 << 30), np.int64(-1)
        for x in range(listed[first, 1], listed[end - 1, 1] + 1):
            if col_low[x] <= col_high[x]:
                left, right = min(left, np.int64(col_low[x])), max(right, np.int64(col_high[x]))
        if left <= right:
            for y in range(listed[first, 0], listed[end - 1, 0] + 1):
                for row in range(row_low[y], row_high[y] + 1, row_step):
                    _expand_missing(store, stored, blocks, arena, staged, row, left, right, known[row])
        first = end


@jit
def _round_rows(
    arena: np.ndarray, staged: Map, blocks: int, store: np.ndarray, stored: Map, listed: np.ndarray, first: int, end: int,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Write and mark the rectangle from entry `first` to entry end - 1; returns how many pixels were not marked."""
    left, count, fresh = np.int64(listed[first, 1]), np.int64(listed[end - 1, 1]) - listed[first, 1] + 1, 0
    for y in range(np.int64(listed[first, 0]), np.int64(listed[end - 1, 0]) + 1):
        source = arena.ctypes.data + (staged.origin + y * staged.row + left * staged.pixel) * 4
        to = store.ctypes.data + (stored.origin + y * stored.row + left * stored.pixel) * 2
        for b in range(blocks):
            half_round(to + b * stored.plane * 2, source + b * staged.plane * 4, count)
        for x in range(left, left + count):
            fresh += written[y, x] == 0
            written[y, x] = 1
    return fresh


@jit
def _passes(
    arena: np.ndarray, staged: Map, blocks: int, store: np.ndarray, stored: Map, listed: np.ndarray, first: int, end: int,
    rule: Test,
) -> bool:  # fmt: skip
    """Whether any pixel from entry `first` to entry end - 1 asks for a write."""
    limit = np.float32(rule.limit)
    for p in range(first, end):
        y, x = np.int64(listed[p, 0]), np.int64(listed[p, 1])
        new = arena.ctypes.data + (staged.origin + y * staged.row + x * staged.pixel) * 4
        old = store.ctypes.data + (stored.origin + y * stored.row + x * stored.pixel) * 2
        if rule.mode == TEST_BITS:
            if half_differs(new, staged.plane * 4, old, stored.plane * 2, blocks):
                return True
        elif not (half_distance(new, staged.plane * 4, old, stored.plane * 2, blocks) <= limit):  # a NaN asks too
            return True
    return False


@jit
def commit_half(
    arena: np.ndarray, staged: Map, blocks: int, store: np.ndarray, stored: Map, listed: np.ndarray, rule: Test,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Round the staged values of listed pixels to float16, write those that pass their test, and mark them.

    Values beyond 65504 become 65504, of their sign. What is compared with the stored value is the rounded one.
    arena : float32[:]. store : uint16[:]. listed : int32[n, 2], (y, x), whole blocks of `rule.block` squared pixels in a
    row, clamped at the map's end. written : uint8[H, W]. Returns the number of pixels newly marked.
    """
    group, first, total = rule.block * rule.block, 0, 0
    while first < listed.shape[0]:
        if rule.mode == STORE:
            end = _run_end(listed, first, group, rule.block)
            total += _round_rows(arena, staged, blocks, store, stored, listed, first, end, written)
        else:
            end = min(first + group, listed.shape[0])
            if _passes(arena, staged, blocks, store, stored, listed, first, end, rule):
                total += _round_rows(arena, staged, blocks, store, stored, listed, first, end, written)
        first = end
    return total
