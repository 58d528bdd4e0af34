"""Twins of `kernels.tile_diff`."""

from __future__ import annotations

import numpy as np


def changed_tiles(
    frame: np.ndarray, reference: np.ndarray, tile: int, limits: np.ndarray, sums: np.ndarray, tiles: np.ndarray
) -> int:
    """Sum of absolute differences of each tile against its limit."""
    difference = np.abs(frame.astype(np.int64) - reference.astype(np.int64)).sum(axis=2)
    for y, x in np.ndindex(*tiles.shape):
        sums[y, x] = difference[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile].sum()
    tiles[:] = sums > limits
    return int(np.count_nonzero(tiles))


def changed_tiles_within(
    frame: np.ndarray, reference: np.ndarray, tile: int, limits: np.ndarray, within: np.ndarray, tiles: np.ndarray
) -> int:
    """All are compared, and those outside are forgotten."""
    changed_tiles(frame, reference, tile, limits, np.zeros(tiles.shape, np.int32), tiles)
    tiles[within == 0] = 0
    return int(np.count_nonzero(tiles))


def differing_tiles(
    frame: np.ndarray, reference: np.ndarray, tile: int, first: int, end: int, tiles: np.ndarray
) -> int:
    """Tile by tile."""
    found = 0
    for number in range(first, end):
        y, x = divmod(number, tiles.shape[1])
        part = slice(y * tile, (y + 1) * tile), slice(x * tile, (x + 1) * tile)
        if not tiles[y, x] and np.any(frame[part] != reference[part]):
            tiles[y, x] = 1
            found += 1
    return found
