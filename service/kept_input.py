"""The model's input of a picture that changes by tiles: kept from frame to frame, and which of its tiles can differ.

Where a picture fits without scaling only the tiles that changed are converted and put into what was kept. Knows pixels
only; `service.pipeline` says when what was kept is what the session has seen last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from cache.change import TileGrid
from service.families.base import Size
from service.preprocess import CODES, FitRule, Image, Placement, fit
from service.reference import Picture, Tiles

_MARGIN = 3.0
"""Source pixels around a changed one that a resized one may see: by its weights, and by a centre cut to whole ones."""


@dataclass(frozen=True)
class Overlap:
    """Which tiles of a model's input see which tiles of a picture. down : float32[grid rows, rows]; across likewise."""

    down: NDArray[np.float32]
    across: NDArray[np.float32]

    def seen(self, changed: Tiles) -> Tiles:
        """bool[grid rows, grid columns]: those that see a changed tile."""
        if not changed.any():
            return np.zeros((len(self.down), len(self.across)), np.bool_)
        found: Tiles = self.down @ changed.astype(np.float32) @ self.across.T > 0
        return found


@dataclass(frozen=True)
class KeptInput:
    """source : whose picture it is. frame : uint8[h, w, C], the model's input. overlap : with tiles of the picture."""

    source: object = field(repr=False)
    frame: Image = field(repr=False)
    placement: Placement
    overlap: Overlap = field(repr=False)


def take_in(
    picture: Picture, kept: KeptInput | None, size: Size, spec: FitRule, grid: TileGrid
) -> tuple[KeptInput, Tiles | None]:
    """A picture in the model's input, and the tiles of `grid` in which that can differ from what was kept.

    kept : of the frame before, if the session saw it last; its frame may be written to. size : (w, h) of the input. The
    tiles are None where nothing is known. Raises what `fit` raises.
    """
    follows = kept is not None and kept.source is picture.source and picture.changed is not None
    if kept is None or picture.changed is None or not follows:
        frame, placement = fit(picture.view, size, spec)
        overlap = overlap_of(picture, placement, grid)
        return KeptInput(picture.source, frame, placement, overlap), None
    within = kept.overlap.seen(picture.changed)
    if not _paste(picture, kept, spec):
        kept = KeptInput(kept.source, fit(picture.view, size, spec)[0], kept.placement, kept.overlap)
    return kept, within


def _paste(picture: Picture, kept: KeptInput, spec: FitRule) -> bool:
    """Bring a kept frame up to date tile by tile, if that can be done; it must not share memory with the picture's.

    The tiles at the edges are whole in the picture's canvas: what of them lies outside is padding again afterwards.
    """
    changed, tile = picture.changed, picture.tile_px
    assert changed is not None
    (left, top), (width, height) = (int(v) for v in kept.placement.offset), kept.placement.frame_size
    (rows, columns), frame = changed.shape, kept.frame
    bottom, right = top + rows * tile, left + columns * tile
    if kept.placement.scale != (1.0, 1.0) or min(left, top) < 0 or bottom > frame.shape[0] or right > frame.shape[1]:
        return False
    if np.may_share_memory(frame, picture.canvas):
        return True  # nothing to convert and nothing around it: the canvas is the model's input
    at, across = np.nonzero(changed)
    if not at.size:
        return True
    tiles = picture.canvas.reshape(rows, tile, columns, tile, 3)[at, :, across]
    code = CODES.get((3, spec.colour))
    if code is not None:
        tiles = cv2.cvtColor(tiles.reshape(-1, tile, 3), code).reshape(at.size, tile, tile, -1)
    inside = frame[top:bottom, left:right]
    inside.reshape(rows, tile, columns, tile, frame.shape[2])[at, :, across] = tiles
    inside[height:] = spec.pad_value
    inside[:, width:] = spec.pad_value
    return True


def overlap_of(picture: Picture, placement: Placement, grid: TileGrid) -> Overlap:
    """For a picture that lies at `placement` in a model's input of that grid. Rather too much than too little."""
    (width, height), (rows, columns) = placement.frame_size, grid_of_picture(picture)
    plain = placement.scale == (1.0, 1.0) and all(float(v).is_integer() for v in placement.offset)
    down, across = (
        _overlap(tile_count, length, picture.tile_px, placement.scale[axis], placement.offset[axis], plain, *cells)
        for axis, tile_count, length, cells in (
            (1, rows, height, (grid.shape[0], grid.tile)),
            (0, columns, width, (grid.shape[1], grid.tile)),
        )
    )
    return Overlap(down, across)


def grid_of_picture(picture: Picture) -> tuple[int, int]:
    """Rows and columns of its tiles."""
    return picture.canvas.shape[0] // picture.tile_px, picture.canvas.shape[1] // picture.tile_px


def _overlap(
    count: int, length: int, tile_px: int, scale: float, offset: float, plain: bool, cells: int, cell_px: int
) -> NDArray[np.float32]:
    """Along one axis: float32[cells, count], 1 where a cell sees a tile of a picture of `length` px."""
    margin = 0.0 if plain else _MARGIN * max(scale, 1.0) + 2.0
    starts = np.arange(count) * tile_px
    ends = np.minimum(starts + tile_px, length)
    first, last = starts * scale + offset - margin, ends * scale + offset + margin
    below = np.arange(cells) * cell_px
    seen = (below[:, None] < last) & (below[:, None] + cell_px > first)
    return seen.astype(np.float32)
