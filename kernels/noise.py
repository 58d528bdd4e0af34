"""What a tile's difference comes to where nothing changes, by brightness; and the limits that follow from it.

Frames are uint8[H, W, C], C-contiguous. Brightness is that of a tile's middle pixel, in `SHADES` shades of `SHADE`
levels each. A tile counts where it is flat: of texture that moves nobody could tell it from noise. Knows bytes only,
not what a limit is good for.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit

__all__ = ["count_differences", "limit_tiles"]

SHADES, SHADE = 16, 16
FLAT = 8
"""Mean difference of neighbours in a tile's middle row, in levels, up to which it is flat: noise comes to that."""
STEPS, PER_LEVEL = 64, 4
"""Differences are counted in quarters of a level; the last count takes all from 15.75 levels on."""


@jit
def _shade(reference: np.ndarray, tile: int, tile_y: int, tile_x: int) -> int:
    """Shade of a tile's middle pixel, the mean of its channels."""
    height, width, channels = reference.shape
    y, x = min(tile_y * tile + tile // 2, height - 1), min(tile_x * tile + tile // 2, width - 1)
    total: int = 0
    for c in range(channels):
        total += int(reference[y, x, c])
    shade: int = total // (channels * SHADE)
    return shade


@jit
def _values(reference: np.ndarray, tile: int, tile_y: int, tile_x: int) -> int:
    """Bytes of a tile, of which the frame's edge may cut something off."""
    height, width, channels = reference.shape
    rows, columns = min(tile, height - tile_y * tile), min(tile, width - tile_x * tile)
    values: int = rows * columns * channels
    return values


@jit
def _is_flat(reference: np.ndarray, tile: int, tile_y: int, tile_x: int) -> bool:
    """Whether neighbours in a tile's middle row differ by no more than `FLAT` levels on average."""
    height, width, channels = reference.shape
    y, left = min(tile_y * tile + tile // 2, height - 1), tile_x * tile
    right = min(left + tile, width)
    total: int = 0
    for x in range(left + 1, right):
        for c in range(channels):
            total += abs(int(np.int64(reference[y, x, c]) - np.int64(reference[y, x - 1, c])))
    most: int = FLAT * channels * (right - left - 1)
    return total <= most


@jit
def count_differences(
    reference: np.ndarray, tile: int, sums: np.ndarray, first: int, end: int, counts: np.ndarray
) -> None:
    """Add the flat ones of tiles `first` to `end` - 1, counted row by row, to a histogram of differences by shade.

    reference : uint8[H, W, C]. tile : edge in pixels. sums : int32[rows, columns], of absolute differences.
    counts : int32[16, 64], by shade and by quarters of a level of the mean difference.
    """
    columns = sums.shape[1]
    for number in range(first, end):
        tile_y, tile_x = number // columns, number % columns
        if not _is_flat(reference, tile, tile_y, tile_x):
            continue
        mean = PER_LEVEL * int(sums[tile_y, tile_x]) // _values(reference, tile, tile_y, tile_x)
        counts[_shade(reference, tile, tile_y, tile_x), min(mean, STEPS - 1)] += 1


@jit
def limit_tiles(reference: np.ndarray, tile: int, by_shade: np.ndarray, limits: np.ndarray) -> None:
    """limits int32[rows, columns] = by_shade float64[16], levels of mean difference, as sums over each tile's bytes.

    reference : uint8[H, W, C]. tile : edge in pixels. Rounded down: an integer above the one is above the other.
    """
    for tile_y in range(limits.shape[0]):
        for tile_x in range(limits.shape[1]):
            levels = by_shade[_shade(reference, tile, tile_y, tile_x)]
            limits[tile_y, tile_x] = int(levels * _values(reference, tile, tile_y, tile_x))
