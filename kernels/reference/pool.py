"""Twins of `kernels.pool`."""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.layout import Act, Map, Test, Window
from kernels.reference.common import finish, lanes_of, positions


def _window(window: Window, y: int, x: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the window of one output pixel, in coordinates of the source map."""
    rows = y * window.stride_y - window.top + np.arange(window.kernel_y) * window.dilation_y
    columns = x * window.stride_x - window.left + np.arange(window.kernel_x) * window.dilation_x
    return rows, columns


def _within(values: np.ndarray, low: int, high: int) -> np.ndarray:
    return values[(values >= low) & (values < high)]


def _taps(arena: np.ndarray, source: Map, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float32[taps, blocks * 16], the values under a window, row by row."""
    ys, xs = np.repeat(rows, columns.size), np.tile(columns, rows.size)
    taps: np.ndarray = arena[positions(source, ys, xs)[:, None] + lanes_of(planes)]
    return taps


def pool_max(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Largest value under the window's part in the map."""
    raw = np.full((len(pixels), planes.size * LANES), np.finfo(np.float32).min, np.float32)
    for i, (y, x) in enumerate(pixels):
        rows, columns = _window(window, int(y), int(x))
        for tap in _taps(arena, source, planes, _within(rows, 0, height), _within(columns, 0, width)):
            raw[i] = np.where(tap > raw[i], tap, raw[i])
    return finish(arena, raw, slope, target, pixels, act, test, written)


def pool_average(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window,
    include_pad: bool, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Sum under the window's part in the map, over the positions in the map or in the padded map."""
    raw = np.zeros((len(pixels), planes.size * LANES), np.float32)
    for i, (y, x) in enumerate(pixels):
        rows, columns = _window(window, int(y), int(x))
        inside = _within(rows, 0, height), _within(columns, 0, width)
        for tap in _taps(arena, source, planes, *inside):
            raw[i] += tap
        if include_pad:
            inside = (
                _within(rows, -window.top, height + window.bottom),
                _within(columns, -window.left, width + window.right),
            )
        raw[i] /= np.float32(max(inside[0].size * inside[1].size, 1))
    return finish(arena, raw, slope, target, pixels, act, test, written)
