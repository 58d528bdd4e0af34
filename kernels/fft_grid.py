"""Tiles of a convolution by Fourier transforms: their sizes, and the work space they take. Needs no library."""

from __future__ import annotations

from typing import NamedTuple

from kernels.constants import LANES

ZEROS = 48
"""float32 at the start of the work space that are zero: the bias of products."""
DECIDED = 4
"""Pixels squared that are compared and written together: tiles are too large for that."""
LISTED = 48 * 2
"""float32 of room for the coordinates of as many pixels as are finished together."""


class Grid(NamedTuple):
    """A map's tiles and the transforms of what they see.

    tile : pixels squared of a tile; the map's first one is at (0, 0). height, width : of the map. taps_y, taps_x : of
    the filter. rows, columns : of a transform, at least what a tile (cut to the map) and all taps but one take, less as
    many zeros as lie before it and behind it, both; an even number of columns. together : tiles whose products are
    computed at once.
    """

    tile: int
    height: int
    width: int
    taps_y: int
    taps_x: int
    rows: int
    columns: int
    together: int

    @property
    def points(self) -> int:
        """Frequencies of a transform of real numbers."""
        return self.rows * (self.columns // 2 + 1)


def buffer_elements(grid: Grid, blocks: int) -> int:
    """float32 elements for one block's patch and spectrum, and a tile's results in so many blocks."""
    patch, tile = grid.rows * grid.columns, min(grid.tile, grid.height) * min(grid.tile, grid.width)
    return ZEROS + LISTED + (patch + 2 * grid.points + blocks * tile) * LANES


def dense_elements(grid: Grid, points: int, inputs: int, blocks: int) -> int:
    """The same where input blocks are summed up, at so many points."""
    return buffer_elements(grid, blocks) + points * 2 * grid.together * (inputs + 2 * blocks) * LANES
