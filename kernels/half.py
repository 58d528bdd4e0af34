"""Maps kept as float16, computed as float32: pixels are expanded for whoever reads them, results rounded and committed.

A *stored* map lies in a stream's store, uint16[:], without a border. Its *staged* twin lies in a float32 arena that
belongs to the thread: a border of zeros that nothing ever writes, and inside it what the step under way needs. Both are
`kernels.layout.Map`s, in elements of their arrays. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES, STORE, TEST_BITS, VECTOR_BYTES
from kernels.image import neighbours
from kernels.jit import jit, jit_inlined
from kernels.layout import Map, Test, address_table
from kernels.micro import unpack_16
from kernels.simd import address_of, prefetch, read_int, table_set
from kernels.simd_half import half_beyond, half_differing, half_expand, half_round, mark_row, write_int

__all__ = ["commit_half", "expand_runs", "expand_windows", "unpack_half"]

STRETCHES = 4
"""Stretches of a row that are remembered as expanded; more are joined."""
NEAR_PX = 8
"""Columns between two stretches that are expanded rather than remembered."""
STRETCH_WORDS = 1 + 2 * STRETCHES
SPAN_PX = 64
"""Pixels side by side that are tested in one go: bits of a word."""
LINE_PX = 2
"""Pixels of a block that share a line of 64 bytes."""
ALONE_PX = 4
"""Blocks of so many columns and more are tested one by one, each as far down as it takes: where most of them pass, one
row is enough."""


@jit
def unpack_half(
    store: np.ndarray, channels: np.ndarray, row: int, pixel: int, first: int, end: int, out: np.ndarray
) -> None:
    """Copy rows `first` to `end` - 1 of a stored map into a tensor: out[c, y, x] = store[channels[c] + y * row + x *
    pixel].

    store : uint16[:], float16 values, 15 more of them behind the last pixel. channels : int64[C], element offset of
    each channel at (0, 0). row, pixel : strides in elements. out : float32[C, H, W], C-contiguous.

    Fast for channels that lie side by side, up to 16 at a time, in their order.
    """
    width = out.shape[2]
    pixels, plane = (end - first) * width, out.shape[1] * width * 4
    values, table, c = np.empty(LANES * LANES, np.float32), address_table(), 0
    for p in range(LANES):
        table_set(table, p, address_of(values) + p * VECTOR_BYTES)
    while c < channels.size:
        count = neighbours(channels, c)
        source, target = address_of(store) + channels[c] * 2, address_of(out) + c * plane + first * width * 4
        for tile in range(0, pixels, LANES):
            at = max(min(tile, pixels - LANES), 0)  # some once more, to fill the vectors
            y, x = first + at // width, at % width
            for p in range(min(pixels, LANES)):
                half_expand(address_of(values) + p * VECTOR_BYTES, source + (y * row + x * pixel) * 2, 1)
                x += 1
                if x == width:
                    x, y = 0, y + 1
            if pixels >= LANES:
                unpack_16(table, 0, target + at * 4, plane, count)
                continue
            for i in range(count):
                for p in range(pixels):
                    out[c + i, first + p // width, p % width] = values[p * LANES + i]
        c += count


@jit_inlined
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
    if first >= count:
        return count
    group = block * block
    end, at = first + group, listed + first * 8
    y, x = read_int(at), read_int(at + 4) + block
    while end < count and read_int(listed + end * 8) == y and read_int(listed + end * 8 + 4) == x:
        end += group
        x += block
    return min(end, count)


@jit_inlined
def _columns_read(listed: int, first: int, end: int, low: np.ndarray, high: np.ndarray) -> tuple[int, int]:
    """First and last column that a run reads; the first one lies behind the last where it reads none."""
    left, right = np.int64(1 << 30), np.int64(-1)
    for x in range(read_int(listed + first * 8 + 4), read_int(listed + end * 8 - 4) + 1):
        if low[x] <= high[x]:
            left, right = min(left, np.int64(low[x])), max(right, np.int64(high[x]))
    return int(left), int(right)


@jit
def expand_runs(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, row_low: np.ndarray,
    row_high: np.ndarray, col_low: np.ndarray, col_high: np.ndarray, listed: np.ndarray, block: int,
) -> None:  # fmt: skip
    """Stage all pixels of a map that listed outputs read, those that several runs of blocks read for each of them.

    For short runs, of which neighbours share few rows: to remember what is staged would take longer. Rows that are
    read have no gaps. Arguments as of `expand_windows`.
    """
    source, to, entries = address_of(store), address_of(arena), address_of(listed)
    first, count = 0, listed.shape[0]
    while first < count:
        end = _run_end(entries, first, count, block)
        left, right = _columns_read(entries, first, end, col_low, col_high)
        if left <= right:
            begun, done = np.int64(0), np.int64(-1)  # first and last row of those in hand that are staged
            for y in range(read_int(entries + first * 8), read_int(entries + (end - 1) * 8) + 1):
                low, high = np.int64(row_low[y]), np.int64(row_high[y])
                if low < begun or low > done + 1:
                    begun, done = low, low - 1
                for row in range(done + 1, high + 1):
                    _expand_stretch(source, stored, blocks, to, staged, row, left, right)
                done = max(done, high)
        first = end


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
        left, right = _columns_read(entries, first, end, col_low, col_high)
        if left <= right:
            for y in range(read_int(entries + first * 8), read_int(entries + (end - 1) * 8) + 1):
                for row in range(np.int64(row_low[y]), np.int64(row_high[y]) + 1, row_step):
                    here = stretches + row * STRETCH_WORDS * 4
                    _expand_missing(source, stored, blocks, to, staged, row, left, right, here)
        first = end


@jit_inlined
def _round_rows(
    source: int, staged: Map, blocks: int, to: int, stored: Map, top: int, bottom: int, left: int, end: int,
    refresh: bool, marks: int, marks_row: int,
) -> int:  # fmt: skip
    """Write and mark columns left to end - 1, if any, of rows top to bottom; returns how many were not marked."""
    fresh, count = 0, end - left
    if count <= 0:
        return 0
    for y in range(top, bottom + 1):
        new = source + (staged.origin + y * staged.row + left * staged.pixel) * 4
        old = to + (stored.origin + y * stored.row + left * stored.pixel) * 2
        for b in range(blocks):
            half_round(old + b * stored.plane * 2, new + b * staged.plane * 4, count)
            if refresh:
                half_expand(new + b * staged.plane * 4, old + b * stored.plane * 2, count)
        fresh += mark_row(marks + y * marks_row + left, count)
    return fresh


@jit_inlined
def _asking(
    source: int, staged: Map, blocks: int, to: int, stored: Map, y: int, left: int, count: int, rule: Test
) -> np.uint64:
    """Which of up to 64 pixels of row y ask for a write: a bit for each from column `left` on."""
    new = source + (staged.origin + y * staged.row + left * staged.pixel) * 4
    old = to + (stored.origin + y * stored.row + left * stored.pixel) * 2
    if rule.mode == TEST_BITS:
        differing: np.uint64 = half_differing(new, staged.plane * 4, old, stored.plane * 2, blocks, count)
        return differing
    limit = np.float32(rule.limit)
    beyond: np.uint64 = half_beyond(new, staged.plane * 4, old, stored.plane * 2, blocks, count, limit)
    return beyond


@jit_inlined
def _of_block(bits: np.uint64, number: int, block: int) -> bool:
    """Whether any pixel of a block asks; bits : of its columns, or of all of them modulo 64 where it is wider."""
    if block < SPAN_PX:
        bits = (bits >> np.uint64(number * block)) & ((np.uint64(1) << np.uint64(block)) - np.uint64(1))
    return bool(bits != np.uint64(0))


@jit_inlined
def _blocks_asking(
    source: int, staged: Map, blocks: int, to: int, stored: Map, top: int, bottom: int, left: int, count: int,
    rule: Test,
) -> np.uint64:  # fmt: skip
    """Bits of the columns of `count`, side by side, of which any pixel in rows top to bottom asks for a write; rows
    after those by which all blocks do are not looked at."""
    bits, number = np.uint64(0), (count + rule.block - 1) // rule.block
    for y in range(top, bottom + 1):
        for at in range(0, count, SPAN_PX):
            bits |= _asking(source, staged, blocks, to, stored, y, left + at, min(SPAN_PX, count - at), rule)
        asking = 0
        while asking < number and _of_block(bits, asking, rule.block):
            asking += 1
        if asking == number:
            break
    return bits


@jit_inlined
def _fetch_run(to: int, stored: Map, blocks: int, entries: int, first: int, end: int) -> None:
    """Ask for the cache lines of what a run will be compared with: no CPU guesses where that lies."""
    if first < end:
        left, right = read_int(entries + first * 8 + 4), read_int(entries + (end - 1) * 8 + 4)
        for y in range(read_int(entries + first * 8), read_int(entries + (end - 1) * 8) + 1):
            row = to + (stored.origin + y * stored.row) * 2
            for b in range(blocks):
                for x in range(left, right, LINE_PX):
                    prefetch(row + (b * stored.plane + x * stored.pixel) * 2)
                prefetch(row + (b * stored.plane + right * stored.pixel) * 2)


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
    first, total, count, marks_row, block = 0, 0, listed.shape[0], written.strides[0], rule.block
    span = block if block >= ALONE_PX else SPAN_PX // block * block
    end = _run_end(entries, first, count, block)
    while first < count:
        following = _run_end(entries, end, count, block)
        if rule.mode != STORE:
            _fetch_run(to, stored, blocks, entries, end, following)
        top, left = read_int(entries + first * 8), read_int(entries + first * 8 + 4)
        bottom, right = read_int(entries + (end - 1) * 8), read_int(entries + (end - 1) * 8 + 4)
        begin, at = left, left if rule.mode != STORE else right + 1
        while at <= right:
            width = min(span, right - at + 1)
            bits = _blocks_asking(source, staged, blocks, to, stored, top, bottom, at, width, rule)
            for number in range((width + block - 1) // block):
                if not _of_block(bits, number, block):
                    stop = at + number * block
                    total += _round_rows(
                        source, staged, blocks, to, stored, top, bottom, begin, stop, refresh, marks, marks_row
                    )
                    begin = stop + block
            at += width
        total += _round_rows(
            source, staged, blocks, to, stored, top, bottom, begin, right + 1, refresh, marks, marks_row
        )
        first, end = end, following
    return total
