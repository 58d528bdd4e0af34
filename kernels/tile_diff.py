"""Which parts of a frame differ from the reference frame: whole tiles by their sum, or exact pixels.

Frames are uint8[H, W, C], C-contiguous. Knows bytes only, not what is done about a change.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit
from kernels.simd import absolute_differences, address_of, word_sum_4, word_sum_8, word_sum_16

__all__ = ["changed_tiles", "changed_tiles_within", "differing_tiles"]


@jit
def _sum_differences(
    frame: np.ndarray, reference: np.ndarray, top: int, bottom: int, first: int, end: int, sums: np.ndarray
) -> None:
    """sums uint16[W * C] = absolute differences of rows top to bottom - 1, summed per column and channel.

    first, end : of those W * C, which are wanted; the others stay.
    """
    bytes_per_row, vectors = frame.shape[1] * frame.shape[2], (end - first) // 32
    flat_frame, flat_reference = frame.reshape(-1), reference.reshape(-1)
    start = top * bytes_per_row + first
    absolute_differences(
        address_of(sums) + first * 2, address_of(frame) + start, address_of(reference) + start, bytes_per_row,
        bottom - top, vectors,
    )  # fmt: skip
    sums[first + vectors * 32 : end] = 0
    for y in range(top, bottom):
        start = y * bytes_per_row
        for i in range(first + vectors * 32, end):
            difference = np.int64(flat_frame[start + i]) - np.int64(flat_reference[start + i])
            sums[i] += np.uint16(abs(difference))


@jit
def _total(sums: np.ndarray, tile: int, left: int, right: int, channels: int) -> np.int64:
    """Sum of the sums of the columns left to right - 1: of a whole tile, or of less at the edge."""
    first = address_of(sums) + left * channels * 2
    total = np.int64(0)
    if right - left < tile:
        for i in range(left * channels, right * channels):
            total += np.int64(sums[i])
    elif tile == 8:
        total = word_sum_8(first, channels)
    elif tile == 4:
        total = word_sum_4(first, channels)
    else:
        total = word_sum_16(first, channels)
    return total


@jit
def changed_tiles(
    frame: np.ndarray, reference: np.ndarray, tile: int, limits: np.ndarray, sums: np.ndarray, tiles: np.ndarray
) -> int:
    """Mark the tiles whose sum of absolute differences over all pixels and channels is above their limit.

    frame, reference : uint8[H, W, C]. tile : edge in pixels, 4, 8 or 16; tiles at the right and bottom edge may be
        partial. limits, sums, tiles : int32, int32 and uint8[ceil(H / tile), ceil(W / tile)]: each tile's limit, its
        sum, and whether that is above. Returns the number of changed tiles.
    """
    height, width, channels = frame.shape
    columns = np.empty(width * channels, np.uint16)
    changed = 0
    for tile_y in range(tiles.shape[0]):
        top = tile_y * tile
        _sum_differences(frame, reference, top, min(top + tile, height), 0, width * channels, columns)
        for tile_x in range(tiles.shape[1]):
            left = tile_x * tile
            total = _total(columns, tile, left, min(left + tile, width), channels)
            over = total > limits[tile_y, tile_x]
            sums[tile_y, tile_x], tiles[tile_y, tile_x] = total, over
            changed += over
    return changed


@jit
def changed_tiles_within(
    frame: np.ndarray, reference: np.ndarray, tile: int, limits: np.ndarray, within: np.ndarray, tiles: np.ndarray
) -> int:
    """As `changed_tiles`, where nothing but the tiles marked in `within` can have changed: the others are not read.

    within : uint8[ceil(H / tile), ceil(W / tile)]. The rest as there.
    """
    height, width, channels = frame.shape
    columns = np.empty(width * channels, np.uint16)
    changed = 0
    for tile_y in range(tiles.shape[0]):
        first, end = tiles.shape[1], 0
        for tile_x in range(tiles.shape[1]):
            tiles[tile_y, tile_x] = 0
            if within[tile_y, tile_x]:
                first, end = min(first, tile_x), tile_x + 1
        if end == 0:
            continue
        top = tile_y * tile
        left, right = first * tile, min(end * tile, width)
        _sum_differences(
            frame, reference, top, min(top + tile, height), left * channels, right * channels, columns
        )  # fmt: skip
        for tile_x in range(first, end):
            if within[tile_y, tile_x]:
                left = tile_x * tile
                over = _total(columns, tile, left, min(left + tile, width), channels) > limits[tile_y, tile_x]
                tiles[tile_y, tile_x] = over
                changed += over
    return changed


@jit
def differing_tiles(
    frame: np.ndarray, reference: np.ndarray, tile: int, first: int, end: int, tiles: np.ndarray
) -> int:
    """Mark those of tiles `first` to `end` - 1, counted row by row, in which any byte differs.

    frame, reference, tile, tiles : as in `changed_tiles`; marks stay. Returns how many were not marked before.
    """
    height, width, channels = frame.shape
    columns, found = tiles.shape[1], 0
    for number in range(first, end):
        tile_y, tile_x = number // columns, number % columns
        if tiles[tile_y, tile_x]:
            continue
        differing = np.uint8(0)
        for y in range(tile_y * tile, min(tile_y * tile + tile, height)):
            for x in range(tile_x * tile, min(tile_x * tile + tile, width)):
                for c in range(channels):
                    differing |= frame[y, x, c] ^ reference[y, x, c]
        if differing:
            tiles[tile_y, tile_x] = 1
            found += 1
    return found
