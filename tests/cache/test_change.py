"""Tiles: what counts as a change."""

from __future__ import annotations

import numpy as np

from cache.change import TileGrid
from kernels.tile_diff import changed_tiles


def compare(grid: TileGrid, difference: float, after: np.ndarray, before: np.ndarray) -> tuple[int, list[list[int]]]:
    """How many tiles have changed, and which."""
    changed = np.empty(grid.shape, np.uint8)
    limits = grid.limits(difference, after.shape[2])
    count = changed_tiles(after, before, grid.tile, limits, np.zeros(grid.shape, np.int32), changed)
    return int(count), changed.tolist()


def test_threshold_is_on_the_mean_of_a_tile():
    grid = TileGrid(16, 24, 8)
    assert grid.shape == (2, 3)
    assert len(grid) == 6
    before = np.full((16, 24, 3), 50, np.uint8)
    after = before.copy()
    after[8:, 16:] += 2
    assert compare(grid, 2.0, after, before)[0] == 0
    after[8, 16, 0] += 1
    assert compare(grid, 2.0, after, before) == (1, [[0, 0, 0], [0, 0, 1]])


def test_zero_sees_one_bit():
    before = np.zeros((8, 8, 1), np.uint8)
    after = before.copy()
    assert compare(TileGrid(8, 8, 8), 0.0, after, before)[0] == 0
    after[7, 7] = 1
    assert compare(TileGrid(8, 8, 8), 0.0, after, before)[0] == 1


def test_cut_off_tiles_are_judged_by_their_own_area():
    before = np.zeros((9, 8, 1), np.uint8)
    after = before.copy()
    after[8] = 3
    assert compare(TileGrid(9, 8, 8), 2.0, after, before) == (1, [[0], [1]])
