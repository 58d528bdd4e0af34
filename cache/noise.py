"""How much of a tile's difference is noise, learnt from the stream itself: the limits of the input test.

Where nothing moves, frames still differ: by the sensor's noise, which depends on brightness, and by the codec's. The
mean differences of flat tiles are counted by brightness, a part of the tiles each frame. What a quarter of a shade's
stays below is taken for noise: something may move in three quarters of them. Above it a tile must rise to count as
changed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cache.change import Frame, TileGrid
from kernels.noise import PER_LEVEL, SHADES, STEPS, limit_tiles

PARTS = 32
"""Frames in which every tile has been counted once."""
QUARTER = 0.25
ENOUGH = 24.0
"""Counts from which a shade speaks for itself; with fewer, all tiles together do too."""
KEPT = 0.5
"""Of the counts, from one turn to the next: what is older than three seconds or so is forgotten."""
MOST = 4.0
"""Times the limit of a clean stream, above which no noise takes it."""


class NoiseModel:
    """Limits of one stream's tiles.

    difference : mean absolute difference of a tile's values (0 to 255) above which it has changed, in a stream without
    noise. times : how much of its own noise is added; 0 leaves the limits as they are.
    """

    def __init__(self, grid: TileGrid, channels: int, difference: float, times: float) -> None:
        self._grid, self._difference, self._times = grid, difference, times
        self._clean = grid.limits(difference, channels)
        self.limits: npt.NDArray[np.int32] = self._clean.copy()
        self.sums: npt.NDArray[np.int32] = np.zeros(grid.shape, np.int32)
        self.counts: npt.NDArray[np.int32] = np.zeros((SHADES, STEPS), np.int32)
        self._part = 0

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._clean.nbytes + self.limits.nbytes + self.sums.nbytes + self.counts.nbytes

    def reset(self) -> None:
        """Forget what was counted."""
        self.limits[:], self.counts[:], self._part = self._clean, 0, 0

    def next_part(self) -> tuple[int, int]:
        """First and end of the tiles that are counted in this frame, row by row; none where limits are fixed."""
        if self._times == 0:
            return 0, 0
        first, end = (len(self._grid) * part // PARTS for part in (self._part, self._part + 1))
        return first, end

    def advance(self, reference: Frame) -> None:
        """A frame has been compared: after a whole turn, set the limits anew. reference : uint8[H, W, C]."""
        if self._times == 0:
            return
        self._part += 1
        if self._part == PARTS:
            self._part = 0
            limits = self._difference + self._times * self.levels()
            limit_tiles(reference, self._grid.tile, np.minimum(limits, MOST * self._difference), self.limits)
            self.counts[:] = self.counts * KEPT

    def levels(self) -> npt.NDArray[np.float64]:
        """float64[16], by shade: mean difference that is noise, in levels. Zero before anything was counted."""
        everything = self.counts.sum(axis=0, dtype=np.float64)
        if everything.sum() == 0:
            return np.zeros(SHADES)
        trust = np.minimum(self.counts.sum(axis=1) / ENOUGH, 1.0)[:, None]
        mixed = self.counts + (1.0 - trust) * everything * (ENOUGH / everything.sum())
        passed = np.cumsum(mixed, axis=1) >= QUARTER * mixed.sum(axis=1, keepdims=True)
        found: npt.NDArray[np.float64] = passed.argmax(axis=1) / PER_LEVEL
        return found
