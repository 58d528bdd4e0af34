"""Twins of `kernels.masks`."""

from __future__ import annotations

import numpy as np


def project(
    mask: np.ndarray, row_low: np.ndarray, row_high: np.ndarray, row_step: int, col_low: np.ndarray,
    col_high: np.ndarray, col_step: int, stale: np.ndarray,
) -> None:  # fmt: skip
    """Look at every input pixel of every output pixel."""
    for y, x in np.ndindex(*stale.shape):
        rows = slice(row_low[y], max(row_high[y] + 1, row_low[y]), row_step)
        columns = slice(col_low[x], max(col_high[x] + 1, col_low[x]), col_step)
        stale[y, x] |= np.any(mask[rows, columns])


def list_pixels(stale: np.ndarray, block: int, pixels: np.ndarray) -> tuple[int, int]:
    """Block by block, each with all its pixels."""
    if block not in (1, 2, 4, 8):
        raise ValueError("expected a block of 1, 2, 4 or 8 pixels")
    height, width = stale.shape
    rows, columns = -(-height // block), -(-width // block)
    if pixels.shape[0] < rows * columns * block * block:
        raise ValueError("expected room for every block of the map in pixels")
    listed: list[tuple[int, int]] = []
    for top in range(0, height, block):
        for left in range(0, width, block):
            if np.any(stale[top : top + block, left : left + block]):
                listed += [
                    (min(y, height - 1), min(x, width - 1))
                    for y in range(top, top + block)
                    for x in range(left, left + block)
                ]
    if listed:
        pixels[: len(listed)] = listed
    return len(listed), len(set(listed))
