"""Twins of `kernels.cells`."""

from __future__ import annotations

import numpy as np

from kernels.constants import HALF, IDENTITY, LANES
from kernels.layout import Act, Map, Test
from kernels.reference.common import activate, finish, positions


def list_cells(listed: np.ndarray, block: int, stride: int, height: int, width: int, cells: np.ndarray) -> int:
    """Group by group of neighbouring blocks, row by row, the cells of the pixels in them."""
    groups: list[list[np.ndarray]] = []
    for part in listed.reshape(-1, block * block, 2):
        if groups and (groups[-1][-1][0] + [0, block]).tolist() == part[0].tolist():
            groups[-1].append(part)
        else:
            groups.append([part])
    found: list[tuple[int, int]] = []
    for group in groups:
        found += sorted({(y // stride, x // stride) for part in group for y, x in part.tolist()})
    assert all(y < height and x < width for y, x in found)
    if found:
        cells[: len(found)] = found
    return len(found)


def sort_by_phase(
    listed: np.ndarray, rows: np.ndarray, columns: np.ndarray, stride_y: int, stride_x: int, ends: np.ndarray,
    cells: np.ndarray,
) -> None:  # fmt: skip
    """A stable sort by the rest of a division."""
    ys, xs = listed[:, 0].astype(np.int64), listed[:, 1].astype(np.int64)
    phases = ys % stride_y * min(stride_x, columns.size) + xs % stride_x
    ends[:] = np.cumsum(np.bincount(phases, minlength=ends.size))
    order = np.argsort(phases, kind="stable")
    cells[:] = np.stack([rows[ys], columns[xs]], axis=1)[order]


def convolve_cells(
    arena: np.ndarray, source: Map, taps: np.ndarray, lanes: int, vectors: int, weights: np.ndarray, bias: np.ndarray,
    slope: np.ndarray, target: Map, cells: np.ndarray, stride: int, channels: int, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bias plus the sum over taps, then one pixel for every phase."""
    outputs = LANES if vectors else HALF
    corners, matrix = positions(source, cells[:, 0], cells[:, 1]), weights.reshape(taps.size, lanes, outputs)
    sums = np.tile(bias[:outputs], (len(cells), 1))
    for k in range(taps.size):
        sums += arena[corners[:, None] + taps[k] // 4 + np.arange(lanes)] @ matrix[k]
    phases = stride * stride
    values = activate(sums, act, slope)[:, : phases * channels].reshape(-1, channels)
    raw = np.zeros((len(values), LANES), np.float32)
    raw[:, :channels] = values
    inner = np.argwhere(np.ones((stride, stride)))
    pixels = (cells[:, None].astype(np.int64) * stride + inner).reshape(-1, 2)
    return finish(arena, raw, slope, target, pixels, Act(IDENTITY, 0.0, 0.0), test._replace(block=1), written)
