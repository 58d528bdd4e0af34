"""Twins of `kernels.noise`."""

from __future__ import annotations

import numpy as np


def _part(reference: np.ndarray, tile: int, y: int, x: int) -> np.ndarray:
    part: np.ndarray = reference[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
    return part


def _shade(reference: np.ndarray, tile: int, y: int, x: int) -> int:
    at = min(y * tile + tile // 2, reference.shape[0] - 1), min(x * tile + tile // 2, reference.shape[1] - 1)
    return int(reference[at].mean() // 16)


def _is_flat(reference: np.ndarray, tile: int, y: int, x: int) -> bool:
    row = reference[min(y * tile + tile // 2, reference.shape[0] - 1), x * tile : (x + 1) * tile].astype(np.int64)
    return bool(np.abs(np.diff(row, axis=0)).sum() <= 8 * (row.size - row.shape[1]))


def count_differences(
    reference: np.ndarray, tile: int, sums: np.ndarray, first: int, end: int, counts: np.ndarray
) -> None:
    """Tile by tile."""
    for y, x in list(np.ndindex(*sums.shape))[first:end]:
        if not _is_flat(reference, tile, y, x):
            continue
        quarters = 4 * int(sums[y, x]) // _part(reference, tile, y, x).size
        counts[_shade(reference, tile, y, x), min(quarters, 63)] += 1


def limit_tiles(reference: np.ndarray, tile: int, by_shade: np.ndarray, limits: np.ndarray) -> None:
    """Tile by tile."""
    for y, x in np.ndindex(*limits.shape):
        limits[y, x] = np.floor(by_shade[_shade(reference, tile, y, x)] * _part(reference, tile, y, x).size)
