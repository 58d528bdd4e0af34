"""Twins of `kernels.masks`."""

from __future__ import annotations

import numpy as np


def bits_of(mask: np.ndarray) -> np.ndarray:
    """uint64[H, words] of a mask."""
    height, width = mask.shape
    padded = np.zeros((height, -(-width // 64) * 64), np.uint8)
    padded[:, :width] = mask != 0
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def mask_of(packed: np.ndarray, width: int) -> np.ndarray:
    """uint8[H, width], the mask that was packed."""
    bits = np.unpackbits(packed.astype("<u8").view(np.uint8), axis=1, bitorder="little")
    return np.ascontiguousarray(bits[:, :width])


def marked_rows(mask: np.ndarray) -> tuple[int, int]:
    """The ends of the list of rows with a mark."""
    rows = np.flatnonzero(mask.any(axis=1))
    return (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)


def pack_mask(mask: np.ndarray, packed: np.ndarray) -> int:
    """Bit by bit, as NumPy packs them."""
    packed[:] = bits_of(mask)
    return int(np.count_nonzero(mask.any(axis=1)))


def project_packed(
    packed: np.ndarray, row_low: np.ndarray, row_high: np.ndarray, row_step: int, col_low: np.ndarray,
    col_high: np.ndarray, col_step: int, stride: int, taps: int, offset: int, stale: np.ndarray,
) -> None:  # fmt: skip
    """Look at every input pixel of every output pixel, by the tables alone."""
    mask, found = mask_of(packed, packed.shape[1] * 64), np.zeros((row_low.size, col_low.size), np.uint8)
    for y, x in np.ndindex(*found.shape):
        rows = slice(row_low[y], max(row_high[y] + 1, row_low[y]), row_step)
        columns = slice(col_low[x], max(col_high[x] + 1, col_low[x]), col_step)
        found[y, x] = np.any(mask[rows, columns])
    stale |= bits_of(found)


def list_packed(stale: np.ndarray, height: int, width: int, block: int, pixels: np.ndarray) -> tuple[int, int]:
    """Unpacked first."""
    return list_pixels(mask_of(stale, width), block, pixels)


def list_part(height: int, width: int, block: int, first: int, end: int, pixels: np.ndarray) -> tuple[int, int]:
    """Of all blocks, those of the part."""
    every = np.zeros((-(-height // block) * -(-width // block) * block * block, 2), np.int32)
    list_pixels(np.ones((height, width), np.uint8), block, every)
    found = every.reshape(-1, block * block, 2)[first:end].reshape(-1, 2)
    pixels[: len(found)] = found
    return len(found), len(np.unique(found, axis=0))


def list_pixels(stale: np.ndarray, block: int, pixels: np.ndarray) -> tuple[int, int]:
    """Block by block, each with all its pixels."""
    if block not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise ValueError("expected a block of 1, 2, 4, 8, 16, 32, 64 or 128 pixels")
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
