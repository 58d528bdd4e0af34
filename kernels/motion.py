"""A picture that has moved as a whole: how much of it a shift explains, what it leaves stale, what is made zero again.

A shift (down, right) says where things went: what is at (y, x) now was at (y - down, x - right). Knows arrays and ints
only.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit
from kernels.simd import (
    address_of,
    block_difference_1,
    block_difference_4,
    block_difference_8,
    block_difference_16,
)

__all__ = ["clear_borders", "explained_tiles", "mark_moved"]

BITS = 64
ZERO, ONE = np.uint64(0), np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@jit
def _difference(new: int, old: int, row: int, rows: int, columns: int, channels: int) -> int:
    """Sum of absolute differences of a tile of pixels from two addresses on; row : bytes from a row to the next."""
    if columns == 8:
        total: int = block_difference_8(new, old, row, rows, channels)
    elif columns == 4:
        total = block_difference_4(new, old, row, rows, channels)
    elif columns == 16:
        total = block_difference_16(new, old, row, rows, channels)
    else:
        total = block_difference_1(new, old, row, rows, columns * channels)
    return total


@jit
def _is_explained(
    frame: np.ndarray, reference: np.ndarray, top: int, left: int, down: int, right: int, tile: int, limit: int
) -> bool:
    """Whether a tile of the frame is, up to a limit, what the reference holds where the tile was."""
    height, width, channels = frame.shape
    rows, columns = min(tile, height - top), min(tile, width - left)
    if top < down or top + rows - down > height or left < right or left + columns - right > width:
        return False
    new = address_of(frame) + (top * width + left) * channels
    old = address_of(reference) + ((top - down) * width + left - right) * channels
    return _difference(new, old, width * channels, rows, columns, channels) <= limit


@jit
def explained_tiles(
    frame: np.ndarray, reference: np.ndarray, corners: np.ndarray, shifts: np.ndarray, tile: int, limits: np.ndarray,
    misses: int, counts: np.ndarray,
) -> int:  # fmt: skip
    """Count for each shift the tiles of a frame that differ from the reference, so shifted, by no more than allowed.

    frame, reference : uint8[H, W, C], C-contiguous. corners : int32[n, 2], (y, x) of the tiles in px. shifts :
        int32[m, 2], (down, right) in px. tile : edge in px; a tile may be cut off at the right and lower edge.
    limits : int32[n], sum of absolute differences that each tile may have. One that was not all in the picture is not
        explained.
    misses : a shift that explains so many tiles less than all of them gets no further, and a count of -1.
    counts : int64[m]. Returns the first of the shifts with the highest count, -1 where there is none above -1.
    """
    best, most = -1, -1
    for s in range(shifts.shape[0]):
        found = 0
        for i in range(corners.shape[0]):
            found += _is_explained(
                frame, reference, corners[i, 0], corners[i, 1], shifts[s, 0], shifts[s, 1], tile, limits[i]
            )
            if i + 1 - found >= misses:
                found = -1
                break
        counts[s] = found
        if found > most:
            best, most = s, found
    return best


@jit
def _sees_the_same(low: np.ndarray, high: np.ndarray, at: int, source: int, target: int) -> bool:
    """Whether an output sees the inputs, moved by `source`, that the output `target` before it saw."""
    before = at - target
    if before < 0 or before >= low.size:
        return False
    return bool(low[before] + source == low[at] and high[before] + source == high[at])


@jit
def mark_moved(
    row_low: np.ndarray, row_high: np.ndarray, col_low: np.ndarray, col_high: np.ndarray, source_down: int,
    source_right: int, down: int, right: int, stale: np.ndarray,
) -> None:  # fmt: skip
    """Mark the outputs that hold, after a move, what was not computed from what their windows hold now.

    These are the ones that came in, and the ones whose window is clipped at another place than it was.

    row_low, row_high, col_low, col_high : int32[H], int32[W], as in `kernels.masks.project_packed`. source_down,
    source_right : how far the input was moved, in px of its own. down, right : how far the output was.
    stale : uint64[H, words], packed.
    """
    height, width, words = row_low.size, col_low.size, stale.shape[1]
    columns, every = np.zeros(words, np.uint64), np.full(words, ALL, np.uint64)
    for x in range(width):
        if not _sees_the_same(col_low, col_high, x, source_right, right):
            columns[x // BITS] |= ONE << np.uint64(x % BITS)
    if width % BITS:
        every[words - 1] = ALL >> np.uint64(BITS - width % BITS)
    for y in range(height):
        marks = columns if _sees_the_same(row_low, row_high, y, source_down, down) else every
        for word in range(words):
            stale[y, word] |= marks[word]


@jit
def clear_borders(arena: np.ndarray, places: np.ndarray, moves: np.ndarray) -> None:
    """Make zero what lies between the rows and the blocks of maps, before and after each of them, and what came in.

    arena : float32[:]. places : int64[maps, 9]: origin, plane, row and pixel as in `kernels.layout.Map`; blocks, which
        lie one after the other; height and width in px; elements before the first pixel and after the last one.
    moves : int64[maps, 2 or more], px of each map that it was moved down and right.
    """
    for m in range(places.shape[0]):
        origin, plane, row, pixel = places[m, 0], places[m, 1], places[m, 2], places[m, 3]
        blocks, height, width, before, after = places[m, 4], places[m, 5], places[m, 6], places[m, 7], places[m, 8]
        body = width * pixel
        for i in range(origin - before, origin):
            arena[i] = np.float32(0)
        down, right = moves[m, 0], moves[m, 1]
        top, bottom = min(max(down, 0), height), max(height + min(down, 0), 0)
        left, end = min(max(right, 0), width) * pixel, max(width + min(right, 0), 0) * pixel
        for b in range(blocks):
            start = origin + b * plane
            for y in range(height):
                line, inside = start + y * row, top <= y < bottom
                for i in range(line, line + (left if inside else body)):
                    arena[i] = np.float32(0)
                for i in range(line + (end if inside else body), line + body):
                    arena[i] = np.float32(0)
            for y in range(height - 1):
                for i in range(start + y * row + body, start + (y + 1) * row):
                    arena[i] = np.float32(0)
            last = start + (height - 1) * row + body
            for i in range(last, start + plane if b + 1 < blocks else last + after):
                arena[i] = np.float32(0)
