"""Whether the picture as a whole has moved, by a distance that feature maps can follow. Knows frames, not networks.

Maps can follow whole multiples of a step alone (the network's stride), so only these are tried, each on a sample of
the tiles that changed: no correlation, no subpixel estimate, and a wrong one never costs more than time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.change import Frame, TileGrid
from kernels.motion import explained_tiles

Shifts = npt.NDArray[np.int32]

CHANGED_SHARE = 0.3
"""Of all tiles; where less changed, a frame costs too little for a move to pay."""
SAMPLE_TILES = 32
"""Changed tiles that each shift is tried on."""
SAMPLE_SHARE = 0.5
"""Of the sample, what a shift must explain to be tried on all tiles."""
WORTH_SHARE = 0.5
"""Of the changed tiles, what may be left after a move, its own cost included: its borders are recomputed too."""
MOST_STEPS = 8
"""Up and down, left and right."""
LEAST_OVERLAP = 0.5
"""Share of the picture that stays in it."""


@dataclass(frozen=True)
class Motion:
    """What was at (y, x) is at (y + down, x + right) now, px. left_tiles : tiles that this does not explain."""

    down: int
    right: int
    left_tiles: int


def possible_shifts(height: int, width: int, step: tuple[int, int]) -> Shifts:
    """int32[n, 2], whole multiples of a step (px down, px right) that leave enough of the picture; short ones first."""
    steps = np.arange(-MOST_STEPS, MOST_STEPS + 1)
    down, right = (grid.reshape(-1) for grid in np.meshgrid(steps * step[0], steps * step[1], indexing="ij"))
    overlap = np.clip(1 - np.abs(down) / height, 0, 1) * np.clip(1 - np.abs(right) / width, 0, 1)
    kept = (overlap >= LEAST_OVERLAP) & ((down != 0) | (right != 0))
    order = np.argsort(-overlap[kept], kind="stable")
    return np.stack((down[kept], right[kept]), axis=1)[order].astype(np.int32)


def find_motion(
    frame: Frame, reference: Frame, tiles: npt.NDArray[np.uint8], grid: TileGrid, limit: int, shifts: Shifts,
    cost_tiles: float = 0.0,
) -> Motion | None:  # fmt: skip
    """The shift of the reference frame that explains the frame clearly better than none, or None.

    tiles : uint8[rows, columns], those that changed. limit : as in `kernels.tile_diff.changed_tiles`. cost_tiles :
    tiles whose share of a dense frame's time is that of the move.
    """
    corners = np.argwhere(tiles).astype(np.int32) * np.int32(grid.tile)
    changed = len(corners)
    if changed == 0 or len(shifts) == 0:
        return None
    sample = corners[np.linspace(0, changed - 1, min(changed, SAMPLE_TILES)).astype(np.int64)]
    counts = np.zeros(len(shifts), np.int64)
    misses = int(len(sample) * (1 - SAMPLE_SHARE)) + 1
    best = explained_tiles(frame, reference, sample, shifts, grid.tile, limit, misses, counts)
    if best < 0:
        return None
    every = np.argwhere(np.ones(grid.shape, np.bool_)).astype(np.int32) * np.int32(grid.tile)
    misses, counts = int(changed * WORTH_SHARE - cost_tiles) + 1, counts[:1]
    if misses < 1:
        return None
    if explained_tiles(frame, reference, every, shifts[best : best + 1], grid.tile, limit, misses, counts) < 0:
        return None
    down, right = shifts[best].tolist()
    return Motion(down, right, len(grid) - int(counts[0]))
