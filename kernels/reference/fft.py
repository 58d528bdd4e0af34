"""Twins of `kernels.fft`."""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.fft_grid import Grid
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions


def patches(arena: np.ndarray, source: Map, planes: np.ndarray, grid: Grid, corners: np.ndarray) -> np.ndarray:
    """float32[tiles, rows, columns, lanes]: what each tile's windows see, zeros past it."""
    found = np.zeros((len(corners), grid.rows, grid.columns, planes.size * LANES), np.float32)
    for patch, (top, left) in zip(found, corners.tolist(), strict=True):
        rows = min(min(grid.tile, grid.height - top) + grid.taps_y - 1, grid.rows)
        columns = min(min(grid.tile, grid.width - left) + grid.taps_x - 1, grid.columns)
        ys, xs = np.mgrid[top : top + rows, left : left + columns]
        patch[:rows, :columns] = arena[positions(source, ys, xs)[..., None] + lanes_of(planes)]
    return found


def tiles_of(pixels: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """int64[tiles, 2], where each tile begins, and int64[tiles, tile * tile, 2], its pixels from there."""
    tiles = pixels.reshape(-1, grid.tile * grid.tile, 2).astype(np.int64)
    return tiles[:, 0], tiles - tiles[:, :1]


def finish_tiles(
    arena: np.ndarray, spectra: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray,
    grid: Grid, act: Act, test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """Transform back, and write in blocks of 4 x 4 pixels."""
    back = np.fft.irfft2(spectra, (grid.rows, grid.columns), axes=(1, 2)) * (grid.rows * grid.columns)
    total = 0
    for values, (top, left) in zip(back, tiles_of(pixels, grid)[0].tolist(), strict=True):
        rows, columns = min(grid.tile, grid.height - top), min(grid.tile, grid.width - left)
        corners = np.moveaxis(np.mgrid[:rows:4, :columns:4], 0, -1).reshape(-1, 1, 2)
        inner = np.moveaxis(np.mgrid[:4, :4], 0, -1).reshape(1, -1, 2)
        place = np.minimum(corners + inner, [rows - 1, columns - 1]).reshape(-1, 2)
        raw = values[place[:, 0], place[:, 1]].astype(np.float32) + bias
        listed = (place + np.array([top, left])).astype(np.int32)
        total += finish(arena, raw, slope, target, listed, act, test._replace(block=4), written)
    return total


def convolve_fft_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, axes: np.ndarray, grid: Grid, points: np.ndarray,
    weights: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Spectrum times spectrum, in double precision."""
    corners, _ = tiles_of(pixels, grid)
    spectra = np.fft.rfft2(patches(arena, source, planes, grid, corners).astype(np.float64), axes=tuple(axes + 1))
    filters = np.zeros((planes.size, grid.points, LANES), np.complex128)
    parts = weights.reshape(planes.size, -1, 2, LANES)
    for found, where, (real, imaginary) in zip(filters, points, parts.transpose(0, 2, 1, 3), strict=True):
        found[where] = real + 1j * imaginary
    spectra *= filters.transpose(1, 0, 2).reshape(grid.rows, -1, planes.size * LANES)
    return finish_tiles(arena, spectra, bias, slope, target, pixels, grid, act, test, written)


def convolve_fft(
    arena: np.ndarray, source: Map, planes: np.ndarray, axes: np.ndarray, grid: Grid, points: np.ndarray,
    spans: np.ndarray, weights: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray,
    act: Act, test: Test, scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """At each point a product with a matrix, in double precision."""
    corners, _ = tiles_of(pixels, grid)
    seen = np.fft.rfft2(patches(arena, source, planes, grid, corners).astype(np.float64), axes=tuple(axes + 1))
    seen = seen.reshape(len(corners), grid.points, -1)
    products = np.zeros((len(corners), grid.points, bias.size), np.complex128)
    per_point = weights.reshape(points.size, -1)
    for point, packed in zip(points, per_point, strict=True):
        matrix = np.empty((planes.size * LANES, 2 * bias.size), np.float32)
        for first, vectors, weight in spans:
            columns = slice(first * LANES, (first + vectors) * LANES)
            size = matrix[:, columns].size
            matrix[:, columns] = packed[weight : weight + size].reshape(matrix.shape[0], -1)
        products[:, point] = seen[:, point] @ (matrix[:, : bias.size] + 1j * matrix[:, bias.size :])
    spectra = products.reshape(len(corners), grid.rows, -1, bias.size)
    return finish_tiles(arena, spectra, bias, slope, target, pixels, grid, act, test, written)
