"""Tiles: what counts as a change."""

from __future__ import annotations

import numpy as np

from cache.change import ChangeDetector, TileGrid


def test_threshold_is_on_the_mean_of_a_tile():
    grid = TileGrid(16, 24, 8)
    assert grid.shape == (2, 3)
    assert len(grid) == 6
    detector = ChangeDetector(grid, 3, 2.0)
    before = np.full((16, 24, 3), 50, np.uint8)
    after = before.copy()
    after[8:, 16:] += 2
    changed = np.empty(grid.shape, np.uint8)
    assert detector.compare(after, before, changed) == 0
    after[8, 16, 0] += 1
    assert detector.compare(after, before, changed) == 1
    assert changed.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_zero_sees_one_bit():
    detector = ChangeDetector(TileGrid(8, 8, 8), 1, 0.0)
    before, changed = np.zeros((8, 8, 1), np.uint8), np.empty((1, 1), np.uint8)
    after = before.copy()
    assert detector.compare(after, before, changed) == 0
    after[7, 7] = 1
    assert detector.compare(after, before, changed) == 1


def test_cut_off_tiles_are_judged_by_their_own_area():
    detector = ChangeDetector(TileGrid(9, 8, 8), 1, 2.0)
    before, changed = np.zeros((9, 8, 1), np.uint8), np.empty((2, 1), np.uint8)
    after = before.copy()
    after[8] = 3
    assert detector.compare(after, before, changed) == 1
    assert changed[:, 0].tolist() == [0, 1]
