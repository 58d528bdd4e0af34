"""Twins of `kernels.ingest`."""

from __future__ import annotations

import numpy as np

from kernels.layout import Map


def _marked(tiles: np.ndarray, tile: int, height: int, width: int) -> np.ndarray:
    marked: np.ndarray = np.kron(tiles, np.ones((tile, tile), np.uint8))[:height, :width] != 0
    return marked


def take_tiles(frame: np.ndarray, tiles: np.ndarray, tile: int, reference: np.ndarray, written: np.ndarray) -> int:
    """Pixels by a mask."""
    marked = _marked(tiles, tile, *frame.shape[:2])
    reference[marked] = frame[marked]
    written[marked] = 1
    return int(marked.sum())


def show_tiles(
    frame: np.ndarray, table: np.ndarray, slope: np.ndarray, shift: np.ndarray, tiles: np.ndarray, tile: int,
    arena: np.ndarray, target: Map, lanes: int,
) -> None:  # fmt: skip
    """Every byte through the table."""
    height, width, channels = frame.shape
    marked = _marked(tiles, tile, height, width)
    for y, x in np.ndindex(height, width):
        if marked[y, x // 16 * 16 : x // 16 * 16 + 16].any():
            c = np.arange(channels)
            at = target.origin + y * target.row + x * target.pixel + c // lanes * target.plane + c % lanes
            arena[at] = table[frame[y, x], c]


def grow_tiles(tiles: np.ndarray, reach: int, grown: np.ndarray) -> None:
    """Look around every tile."""
    for y, x in np.ndindex(*tiles.shape):
        grown[y, x] = tiles[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].any()
