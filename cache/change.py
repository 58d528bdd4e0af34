"""Which tiles of a frame have changed since the pixels that the cache represents. Knows frames, not networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.tile_diff import changed_tiles

Frame = npt.NDArray[np.uint8]
ChangeMask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TileGrid:
    """Square tiles over an image; those at the right and lower edge may be cut off. Sizes in px."""

    height: int
    width: int
    tile: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.height // self.tile), -(-self.width // self.tile)

    def __len__(self) -> int:
        rows, columns = self.shape
        return rows * columns


class ChangeDetector:
    """Compares frames with a reference frame, tile by tile.

    A tile has changed when the mean absolute difference of its values is above `difference` (0 to 255); with
    `difference` = 0, when any value differs.
    """

    def __init__(self, grid: TileGrid, channels: int, difference: float) -> None:
        self.grid = grid
        self._limit = int(difference * grid.tile * grid.tile * channels)

    def compare(self, frame: Frame, reference: Frame, changed: ChangeMask) -> int:
        """Set `changed` (uint8[rows, columns]) to 1 where a tile has changed, else 0; returns how many have.

        frame, reference : uint8[H, W, C], C-contiguous.
        """
        return int(changed_tiles(frame, reference, self.grid.tile, self._limit, changed))
