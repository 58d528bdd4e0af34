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

    def limits(self, difference: float, channels: int) -> npt.NDArray[np.int32]:
        """int32[rows, columns], sums of absolute differences above which tiles have changed (`kernels.tile_diff`).

        difference : mean absolute difference of a tile's values, 0 to 255; with 0 any that differs counts.
        """
        rows, columns = (
            np.minimum(np.arange(1, count + 1) * self.tile, size) - np.arange(count) * self.tile
            for count, size in zip(self.shape, (self.height, self.width), strict=True)
        )
        found: npt.NDArray[np.int32] = np.floor(difference * channels * np.outer(rows, columns)).astype(np.int32)
        return found

    def __len__(self) -> int:
        rows, columns = self.shape
        return rows * columns
