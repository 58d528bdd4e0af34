"""Whether the picture as a whole has moved, by a distance that feature maps can follow. Knows frames, not networks.

Maps can follow whole multiples of a step alone (the network's stride), so only these are tried, each on a sample of
the tiles that changed: no correlation, no subpixel estimate, and a wrong one never costs more than time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.change import Frame, TileGrid
from kernels.motion import explained_tiles
from kernels.tile_diff import changed_tiles

Shifts = npt.NDArray[np.int32]
Limits = npt.NDArray[np.int32]
Tiles = npt.NDArray[np.uint8]

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


@dataclass(frozen=True, eq=False)
class Motion:
    """What was at (y, x) is at (y + down, x + right) now, px.

    reference : uint8[H, W, C], the reference frame so moved, what came in taken from the new frame.
    """

    down: int
    right: int
    reference: Frame


def possible_shifts(height: int, width: int, step: tuple[int, int]) -> Shifts:
    """int32[n, 2], whole multiples of a step (px down, px right) that leave enough of the picture; short ones first."""
    steps = np.arange(-MOST_STEPS, MOST_STEPS + 1)
    down, right = (grid.reshape(-1) for grid in np.meshgrid(steps * step[0], steps * step[1], indexing="ij"))
    overlap = np.clip(1 - np.abs(down) / height, 0, 1) * np.clip(1 - np.abs(right) / width, 0, 1)
    kept = (overlap >= LEAST_OVERLAP) & ((down != 0) | (right != 0))
    order = np.argsort(-overlap[kept], kind="stable")
    return np.stack((down[kept], right[kept]), axis=1)[order].astype(np.int32)


def find_motion(
    frame: Frame, reference: Frame, tiles: Tiles, grid: TileGrid, limits: Limits, shifts: Shifts,
    cost_tiles: float = 0.0,
) -> Motion | None:  # fmt: skip
    """The shift of the reference frame that explains the frame clearly better than none, or None.

    tiles : uint8[rows, columns], those that changed. limits : int32[rows, columns], as `kernels.tile_diff` takes them.
    cost_tiles : tiles whose share of a dense frame's time is that of the move.
    """
    places = np.argwhere(tiles)
    changed = len(places)
    most = int(changed * WORTH_SHARE - cost_tiles)
    if changed == 0 or len(shifts) == 0 or most < 0:
        return None
    sample = places[np.linspace(0, changed - 1, min(changed, SAMPLE_TILES)).astype(np.int64)]
    corners = (sample * grid.tile).astype(np.int32)
    allowed, counts = limits[sample[:, 0], sample[:, 1]], np.zeros(len(shifts), np.int64)
    misses = int(len(sample) * (1 - SAMPLE_SHARE)) + 1
    best = explained_tiles(frame, reference, corners, shifts, grid.tile, allowed, misses, counts)
    if best < 0:
        return None
    down, right = shifts[best].tolist()
    moved, left = reference.copy(), np.empty_like(tiles)
    move_frame(moved, frame, down, right)
    changed_tiles(frame, moved, grid.tile, limits, np.empty_like(limits), left)
    mark_strips(left, grid, down, right)
    return Motion(down, right, moved) if np.count_nonzero(left) <= most else None


def slide(place: npt.NDArray[Any], by: int) -> None:
    """Move what a 1-D array holds by so many elements, within it. What is left behind stays."""
    count = (place.size - abs(by)) * place.itemsize
    if by and count > 0:  # NumPy would copy backwards one by one
        start, apart = place.ctypes.data, abs(by) * place.itemsize
        ctypes.memmove(start + apart * (by > 0), start + apart * (by < 0), count)


def move_frame(reference: Frame, frame: Frame, down: int, right: int) -> None:
    """Move a reference frame, and take what comes in from a frame. Both uint8[H, W, C], C-contiguous."""
    height, width, channels = frame.shape
    slide(reference.reshape(-1), (down * width + right) * channels)
    for part in strips(height, width, down, right):
        reference[part] = frame[part]


def strips(height: int, width: int, down: int, right: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of what comes into a picture with a move."""
    if down:
        yield (slice(0, down) if down > 0 else slice(height + down, height)), slice(0, width)
    if right:
        yield slice(0, height), (slice(0, right) if right > 0 else slice(width + right, width))


def mark_strips(tiles: Tiles, grid: TileGrid, down: int, right: int) -> None:
    """Mark the tiles of what comes into a picture with a move."""
    edge = grid.tile
    for rows, columns in strips(grid.height, grid.width, down, right):
        tiles[rows.start // edge : -(-rows.stop // edge), columns.start // edge : -(-columns.stop // edge)] = 1
