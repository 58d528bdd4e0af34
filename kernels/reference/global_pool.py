"""Twins of `kernels.global_pool`."""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions

_ONLY_PIXEL = np.zeros((1, 2), np.int32)


def _row(arena: np.ndarray, source: Map, planes: np.ndarray, width: int, y: int) -> np.ndarray:
    """float32[width, blocks * 16], one row of the map."""
    columns = np.arange(width)
    row: np.ndarray = arena[positions(source, np.full(width, y), columns)[:, None] + lanes_of(planes)]
    return row


def global_average(
    arena: np.ndarray, source: Map, planes: np.ndarray, width: int, rows_stale: np.ndarray,
    partials: np.ndarray, slope: np.ndarray, target: Map, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Sum stale rows again, add all rows up, divide."""
    for y in np.flatnonzero(rows_stale):
        partials[y] = 0
        for pixel in _row(arena, source, planes, width, int(y)):
            partials[y] += pixel
    total = np.zeros((1, planes.size * LANES), np.float32)
    for partial in partials:
        total += partial
    raw = total / np.float32(rows_stale.size * width)
    return finish(arena, raw, slope, target, _ONLY_PIXEL, act, test, written)


def global_max(
    arena: np.ndarray, source: Map, planes: np.ndarray, width: int, rows_stale: np.ndarray,
    partials: np.ndarray, slope: np.ndarray, target: Map, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Maximum of stale rows again, then of all rows."""
    for y in np.flatnonzero(rows_stale):
        partials[y] = _row(arena, source, planes, width, int(y)).max(axis=0)
    raw = partials.max(axis=0, keepdims=True)
    return finish(arena, raw, slope, target, _ONLY_PIXEL, act, test, written)
