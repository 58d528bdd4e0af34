"""Drawn arguments for the kernels of `kernels.fft`: they round, so that no decision may hang on a last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_cases import ALWAYS_ROUNDED, Array, Case, case, finishing, memory, output_size

from kernels.constants import LANES, STORE, TEST_RMS
from kernels.fft_grid import Grid, buffer_elements, dense_elements
from kernels.layout import Test
from kernels.target import MAX_VECTORS

ALWAYS_ROUNDED.update({"convolve_fft", "convolve_fft_depthwise"})
LIMITS = {STORE: [0.0, -1.0], TEST_RMS: [0.5, 1.5, 6.5]}
"""Sums of squares of differences are near whole numbers."""


def tiled(draw: Any, together: int) -> tuple[Any, Grid, Case]:
    """Memory, a grid, and the arguments that do not depend on channels; tiles in any order."""
    m, (height, width) = memory(draw), output_size(draw)
    tile, taps = draw(st.sampled_from([4, 8, 16])), (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    rows, columns = (
        min(tile, size) + count - 1 + draw(st.integers(0, 2)) for size, count in zip((height, width), taps, strict=True)
    )
    grid = Grid(tile, height, width, *taps, rows, columns + columns % 2, together)
    corners = np.stack(np.mgrid[:height:tile, :width:tile], -1).reshape(-1, 1, 2)
    corners = m.rng.permutation(corners)[: draw(st.integers(1, len(corners)))]
    inner = np.stack(np.mgrid[:tile, :tile], -1).reshape(1, -1, 2)
    pixels = np.minimum((corners + inner).reshape(-1, 2), [height - 1, width - 1]).astype(np.int32)
    return m, grid, {"grid": grid, "pixels": pixels, "axes": np.arange(2)}


def ending(m: Any, grid: Grid, blocks: int, points: Array) -> Case:
    """What most kernels end with, and a rule that rounding does not touch: with some frequencies, nothing is whole."""
    found = finishing(m, blocks, grid.height, grid.width)
    mode = m.draw(st.sampled_from([STORE, TEST_RMS])) if points.shape[-1] == grid.points else STORE
    return found | {"test": Test(mode, m.draw(st.sampled_from(LIMITS[mode])), grid.tile)}


def spectra(filters: Array, grid: Grid) -> Array:
    """complex128[..., points] of filters [..., taps_y, taps_x]."""
    found = np.fft.rfft2(filters, (grid.rows, grid.columns)).conj() / (grid.rows * grid.columns)
    return found.reshape(*filters.shape[:-2], -1)


def kept_points(m: Any, grid: Grid, rows: int) -> Array:
    """int64[rows, n], ascending: all points, or some."""
    if m.draw(st.booleans()):
        return np.tile(np.arange(grid.points), (rows, 1))
    count = m.some(1, grid.points)
    return np.stack([np.sort(m.rng.permutation(grid.points)[:count]) for _ in range(rows)])


@case
def convolve_fft_depthwise(draw: Any) -> Case:
    """Tiles larger and smaller than the map, transforms of any even size, all frequencies or some."""
    m, grid, arguments = tiled(draw, 1)
    blocks = draw(st.integers(1, 3))
    source, planes = m.place(blocks, grid.height + grid.taps_y, grid.width + grid.taps_x)
    points = kept_points(m, grid, blocks)
    found = spectra(m.integers(blocks, LANES, grid.taps_y, grid.taps_x), grid)
    chosen = np.take_along_axis(found, points[:, None], axis=2)
    packed = np.stack([chosen.real, chosen.imag], 2).transpose(0, 3, 2, 1).astype(np.float32)
    return ending(m, grid, blocks, points) | arguments | {
        "arena": m.arena(), "source": source, "planes": planes, "points": points, "weights": packed.reshape(-1),
        "bias": m.integers(blocks * LANES), "work": np.zeros(buffer_elements(grid, blocks), np.float32),
    }  # fmt: skip


@case
def convolve_fft(draw: Any) -> Case:
    """Any number of blocks, groups of outputs of any size, tiles one by one and several at once."""
    m, grid, arguments = tiled(draw, draw(st.integers(1, 8)))
    inputs, blocks = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    source, planes = m.place(inputs, grid.height + grid.taps_y, grid.width + grid.taps_x)
    points = kept_points(m, grid, 1)[0]
    filters = m.integers(blocks * LANES, inputs * LANES, grid.taps_y, grid.taps_x, high=1)
    chosen = spectra(filters, grid)[..., points].transpose(2, 1, 0)
    matrix = np.concatenate([chosen.real, chosen.imag], axis=2).astype(np.float32)
    spans, parts, first, at = [], [], 0, 0
    while first < 2 * blocks:
        count = min(m.some(1, MAX_VECTORS), 2 * blocks - first)
        parts.append(matrix[:, :, first * LANES : (first + count) * LANES].reshape(points.size, -1))
        spans.append((first, count, at))
        first, at = first + count, at + parts[-1].shape[1]
    return ending(m, grid, blocks, points) | arguments | {
        "arena": m.arena(), "source": source, "planes": planes, "points": points, "spans": np.array(spans, np.int64),
        "weights": np.concatenate(parts, axis=1).reshape(-1), "bias": m.integers(blocks * LANES),
        "work": np.zeros(dense_elements(grid, points.size, inputs, blocks), np.float32),
    }  # fmt: skip
