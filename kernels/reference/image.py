"""Twins of `kernels.image`."""

from __future__ import annotations

import numpy as np

from kernels.layout import Map
from kernels.reference.common import positions


def _channel(target: Map, lanes: int, c: int, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Elements of the arena that hold channel c of the given pixels."""
    return positions(target, ys, xs) + c // lanes * target.plane + c % lanes


def ingest_tensor(x: np.ndarray, arena: np.ndarray, target: Map, lanes: int, written: np.ndarray) -> int:
    """Every value; pixels of which any channel's bits differ are marked."""
    channels, height, width = x.shape
    ys, xs = (grid.reshape(-1) for grid in np.mgrid[:height, :width])
    differs = np.zeros(height * width, bool)
    for c in range(channels):
        where = _channel(target, lanes, c, ys, xs)
        values = x[c].reshape(-1)
        differs |= values.view(np.uint32) != arena[where].view(np.uint32)
        arena[where] = values
    written[ys[differs], xs[differs]] = 1
    return int(np.count_nonzero(differs))


def unpack_rows(
    arena: np.ndarray, channels: np.ndarray, row: int, pixel: int, first: int, end: int, out: np.ndarray
) -> None:
    """One strided gather."""
    ys, xs = np.mgrid[first:end, : out.shape[2]]
    out[:, first:end] = arena[channels[:, None, None] + ys * row + xs * pixel]
