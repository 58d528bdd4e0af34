"""Twins of `kernels.motion`."""

from __future__ import annotations

import numpy as np

from kernels.reference.masks import bits_of


def _is_explained(
    frame: np.ndarray, reference: np.ndarray, top: int, left: int, down: int, right: int, tile: int, limit: int
) -> bool:
    """One tile, cut out of both pictures."""
    new = frame[top : top + tile, left : left + tile].astype(np.int64)
    height, width, _ = new.shape
    if top < down or left < right:
        return False
    old = reference[top - down : top - down + height, left - right : left - right + width]
    if old.shape != new.shape:
        return False
    return bool(np.abs(new - old).sum() <= limit)


def explained_tiles(
    frame: np.ndarray, reference: np.ndarray, corners: np.ndarray, shifts: np.ndarray, tile: int, limits: np.ndarray,
    misses: int, counts: np.ndarray,
) -> int:  # fmt: skip
    """Shift by shift."""
    for s, (down, right) in enumerate(shifts.tolist()):
        found = [
            _is_explained(frame, reference, y, x, down, right, tile, int(limit))
            for (y, x), limit in zip(corners.tolist(), limits, strict=True)
        ]
        counts[s] = -1 if found and len(found) - sum(found) >= misses else sum(found)
    return int(np.argmax(counts)) if counts.size and counts.max() > -1 else -1


def mark_moved(
    row_low: np.ndarray, row_high: np.ndarray, col_low: np.ndarray, col_high: np.ndarray, source_down: int,
    source_right: int, down: int, right: int, stale: np.ndarray,
) -> None:  # fmt: skip
    """By axis: an output that was not there, or that saw other inputs there."""

    def other(low: np.ndarray, high: np.ndarray, source: int, target: int) -> np.ndarray:
        before = np.arange(low.size) - target
        inside = (before >= 0) & (before < low.size)
        before = np.clip(before, 0, low.size - 1)
        same: np.ndarray = inside & (low[before] + source == low) & (high[before] + source == high)
        return ~same

    rows, columns = other(row_low, row_high, source_down, down), other(col_low, col_high, source_right, right)
    stale |= bits_of(rows[:, None] | columns[None])


def clear_borders(arena: np.ndarray, places: np.ndarray, moves: np.ndarray) -> None:
    """All from the first to the last element of a map's place but the pixels that were there before."""
    for place, (down, right) in zip(places.tolist(), moves[:, :2].tolist(), strict=True):
        origin, plane, row, pixel, blocks, height, width, before, after = place
        starts = np.arange(blocks)[:, None, None] * plane + np.arange(height)[:, None] * row
        inner = origin + starts + np.arange(width * pixel)
        y, x = np.arange(height) - down, np.arange(width) - right
        stayed = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
        kept = np.where(np.repeat(stayed, pixel, axis=1), arena[inner], np.float32(0))
        arena[origin - before : int(inner.max()) + 1 + after] = 0
        arena[inner] = kept
