"""Which tiles of a frame have changed since the pixels that the cache represents. Knows frames, not networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


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

    def limit(self, difference: float, channels: int) -> int:
        """Sum of absolute differences above which a whole tile has changed, as `kernels.tile_diff` takes it.

        difference : mean absolute difference of a tile's values, 0 to 255; with 0 any that differs counts.
        """
        return int(difference * self.tile * self.tile * channels)

    def __len__(self) -> int:
        rows, columns = self.shape
        return rows * columns
