"""Convolutions with large filters by Fourier transforms of tiles that overlap ("overlap-save").

A tile's results are products of spectra: what its windows see is transformed, multiplied with the filter's spectrum,
transformed back. Tiles lie on a fixed grid and are computed each for itself, whole, so that a pixel's bits do not
depend on which tiles are listed. Transforms are those of DUCC0, by way of `rocket_fft`, which must be there: nothing
imports this file where it is not. Knows arrays and ints only.

Source: A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, section on linear convolution by the DFT;
M. Mathieu, M. Henaff, Y. LeCun, Fast Training of Convolutional Networks through FFTs, 2014.
"""

from __future__ import annotations

import numpy as np
from rocket_fft import c2c, c2r, r2c

from kernels.constants import IDENTITY, LANES, STORE, VECTOR_BYTES
from kernels.fft_grid import DECIDED, LISTED, ZEROS, Grid
from kernels.jit import jit
from kernels.layout import CHUNK, WIDEST, Act, Map, Memory, Test, address_table, finish_pixels, memory
from kernels.micro import dense_16x1, dense_16x2, dense_16x3
from kernels.simd import address_of, lane_add, lane_copy, lane_fill, read_int, table_set
from kernels.simd_fft import complex_part, complex_scale, complex_sum
from kernels.target import PIXELS

__all__ = ["convolve_fft", "convolve_fft_depthwise"]

NUMBERS_BYTES = 2 * VECTOR_BYTES


@jit
def _load(m: Memory, source: Map, plane: int, top: int, left: int, grid: Grid, real: int) -> None:
    """Copy what a tile's windows see of a block, float32[rows, columns, 16], zeros past it.

    What does not fit is zero, and so is what is read in its place: as many rows, and columns, at the beginning.
    """
    rows = min(grid.tile, grid.height - top) + grid.taps_y - 1
    columns = min(min(grid.tile, grid.width - left) + grid.taps_x - 1, grid.columns)
    step, out = source.pixel * 4, real
    for y in range(grid.rows):
        seen = columns if y < rows else 0
        read = m.base + (source.origin + plane + (top + y) * source.row + left * source.pixel) * 4
        for x in range(seen):
            lane_copy(out + x * VECTOR_BYTES, read + x * step)
        for x in range(seen, grid.columns):
            lane_fill(out + x * VECTOR_BYTES, np.float32(0))
        out += grid.columns * VECTOR_BYTES


@jit
def _forward(real: np.ndarray, spectrum: np.ndarray, axes: np.ndarray, kept: int) -> None:
    """Transform; along columns only the first `kept` of the spectrum."""
    r2c(real, spectrum, axes[1:], True, 1.0, 1)
    part = spectrum[:, :kept]
    c2c(part, part, axes[:1], True, 1.0, 1)


@jit
def _backward(spectrum: np.ndarray, real: np.ndarray, axes: np.ndarray, kept: int, rows: int) -> None:
    """Transform back the first rows, unscaled; columns of the spectrum from `kept` on are zero."""
    part = spectrum[:, :kept]
    c2c(part, part, axes[:1], False, 1.0, 1)
    c2r(spectrum[:rows], real[:rows], axes[1:], False, 1.0, 1)


@jit
def _kept_columns(points: np.ndarray, columns: int) -> int:
    """The spectrum's columns up to the last one that holds one of the points."""
    last = 0
    for point in points:
        last = max(last, point % columns)
    return last + 1


@jit
def _scale(spectrum: int, count: int, points: np.ndarray, factors: int) -> None:
    """Multiply the numbers at ascending points with float32[points, 2, 16]; all others become zero."""
    at = 0
    for point in range(count):
        numbers = spectrum + point * NUMBERS_BYTES
        if at < points.size and points[at] == point:
            complex_scale(numbers, factors + at * NUMBERS_BYTES)
            at += 1
        else:
            lane_fill(numbers, np.float32(0))
            lane_fill(numbers + VECTOR_BYTES, np.float32(0))


@jit
def _keep(real: int, grid: Grid, rows: int, columns: int, out: int) -> None:
    """out float32[rows, columns, 16] = the part of a patch where no window is cut."""
    for y in range(rows):
        for x in range(columns):
            lane_copy(out + (y * columns + x) * VECTOR_BYTES, real + (y * grid.columns + x) * VECTOR_BYTES)


@jit
def _finish(
    m: Memory, act: Act, slopes: int, bias: int, target: Map, top: int, left: int, rows: int, columns: int, out: int,
    listed: np.ndarray, test: Test,
) -> int:  # fmt: skip
    """Finish a tile's results float32[blocks, rows, columns, 16], in blocks of 4 x 4 pixels."""
    row, plane, total, count = m.blocks * VECTOR_BYTES, rows * columns * VECTOR_BYTES, 0, 0
    own = Memory(m.base, address_of(listed), m.scratch, m.blocks, m.marks, m.marks_row, m.marks_pixel)
    rule = Test(test.mode, test.limit, DECIDED)
    for first_y in range(0, rows, DECIDED):
        for first_x in range(0, columns, DECIDED):
            for i in range(DECIDED * DECIDED):
                y, x = min(first_y + i // DECIDED, rows - 1), min(first_x + i % DECIDED, columns - 1)
                listed[2 * count], listed[2 * count + 1] = top + y, left + x
                at = out + (y * columns + x) * VECTOR_BYTES
                for b in range(m.blocks):
                    lane = b * VECTOR_BYTES
                    lane_add(m.scratch + count * row + lane, at + b * plane, bias + lane)
                count += 1
            if count == CHUNK:
                total += finish_pixels(own, act, slopes, target, 0, count, rule)
                count = 0
    if count > 0:
        total += finish_pixels(own, act, slopes, target, 0, count, rule)
    return total


@jit
def _buffers(work: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Room for coordinates, a patch and its spectrum, and the first float32 of the work space past them."""
    half = grid.columns // 2 + 1
    patch, first = grid.rows * grid.columns * LANES, ZEROS + LISTED
    spectrum = first + patch
    end = spectrum + grid.rows * half * LANES * 2
    return (
        work[ZEROS:first].view(np.int32), work[first:spectrum].reshape((grid.rows, grid.columns, LANES)),
        work[spectrum:end].view(np.complex64).reshape((grid.rows, half, LANES)), end,
    )  # fmt: skip


@jit
def convolve_fft_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, axes: np.ndarray, grid: Grid, points: np.ndarray,
    weights: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve each channel by itself, stride 1, at the listed tiles, activate, compare, write what passes.

    arena : float32[:], holds source and target maps; source's origin is where the window of pixel (0, 0) begins.
    planes : int64[blocks], element offset of each input block from the source's origin. axes : int64[2], 0 and 1.
    points : int64[blocks, n], of each block, ascending: frequencies (row * half + column) that are not taken for zero.
    weights : float32[blocks * n * 32], the filters' conjugate spectra there, over the number of values transformed:
        [block][point][real, imaginary][16]; 64-byte aligned.
    pixels : int32[m, 2], (y, x) in the target, whole tiles on the grid, row-major, clamped to the map.
    work : float32[buffer_elements(grid, blocks)] or more, its first 48 zero. test.block : ignored, tiles are compared
        and written in blocks of 4 x 4 pixels.

    Other arguments and the result as in `kernels.conv.convolve`.
    """
    blocks, half, size = planes.size, grid.columns // 2 + 1, grid.tile * grid.tile
    listed, real, spectrum, first = _buffers(work, grid)
    m, slopes, all_bias = memory(arena, pixels, scratch, blocks, written), address_of(slope), address_of(bias)
    patch, numbers, out, all_weights = (
        address_of(real), address_of(spectrum), address_of(work) + first * 4, address_of(weights),
    )  # fmt: skip
    total = 0
    for start in range(0, pixels.shape[0], size):
        top, left = read_int(m.listed + start * 8), read_int(m.listed + start * 8 + 4)
        rows, columns = min(grid.tile, grid.height - top), min(grid.tile, grid.width - left)
        for b in range(blocks):
            kept = _kept_columns(points[b], half)
            _load(m, source, planes[b], top, left, grid, patch)
            _forward(real, spectrum, axes, kept)
            _scale(numbers, grid.rows * half, points[b], all_weights + b * points.shape[1] * NUMBERS_BYTES)
            _backward(spectrum, real, axes, kept, rows)
            _keep(patch, grid, rows, columns, out + b * rows * columns * VECTOR_BYTES)
        total += _finish(m, act, slopes, all_bias, target, top, left, rows, columns, out, listed, test)
    return total


@jit
def _part_points(numbers: int, points: np.ndarray, target: int, step: int) -> None:
    """target[point] float32[2, 16] = the spectrum there, parts apart. step : bytes from a point's to the next's."""
    for point in points:
        complex_part(numbers + point * NUMBERS_BYTES, target)
        target += step


@jit
def _multiply(
    points: int, inputs: int, spectra: int, input_step: int, rows: int, stride: int, spans: np.ndarray, weights: int,
    point_weights: int, zeros: int, products: int, output_step: int, output_row: int,
) -> None:  # fmt: skip
    """At each point: the products of `rows` rows of inputs, real and imaginary parts of tiles in turn, with weights.

    input_step, output_step : bytes between two points. stride : rows that there is room for. point_weights : of one.
    """
    bases, outs, taps = address_table(), address_table(), address_table()
    plain = (IDENTITY, np.float32(0), np.float32(0), zeros, 0, 0)
    for i in range(inputs):
        table_set(taps, i, i * stride * VECTOR_BYTES)
    for point in range(points):
        for r in range(rows + WIDEST):
            row = min(r, rows - 1)
            table_set(bases, r, spectra + point * input_step + row * VECTOR_BYTES)
            table_set(outs, r, products + point * output_step + row * output_row)
        for g in range(spans.shape[0]):
            first, vectors, weight = spans[g, 0], spans[g, 1], spans[g, 2]
            w = weights + (point * point_weights + weight) * 4
            for slot in range(0, rows, PIXELS):
                base, at = bases + slot * 8, (STORE, outs + slot * 8, first * VECTOR_BYTES, VECTOR_BYTES, 0, 0, 0)
                if vectors == 3:
                    dense_16x3(base, taps, inputs, w, zeros, plain, at)
                elif vectors == 2:
                    dense_16x2(base, taps, inputs, w, zeros, plain, at)
                else:
                    dense_16x1(base, taps, inputs, w, zeros, plain, at)


@jit
def _sum_points(
    numbers: int, count: int, points: np.ndarray, products: int, step: int, row: int, part: int
) -> None:  # fmt: skip
    """The spectrum of `count` points from the products at some of them; the others become zero."""
    if points.size < count:
        for lane in range(2 * count):
            lane_fill(numbers + lane * VECTOR_BYTES, np.float32(0))
    for point in points:
        complex_sum(products, row, part, numbers + point * NUMBERS_BYTES)
        products += step


@jit
def convolve_fft(
    arena: np.ndarray, source: Map, planes: np.ndarray, axes: np.ndarray, grid: Grid, points: np.ndarray,
    spans: np.ndarray, weights: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray,
    act: Act, test: Test, scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve all channels with all, stride 1, at the listed tiles; arguments as of one channel each, but for

    planes : int64[inputs], at most 384. points : int64[n], ascending, of all channels alike.
    spans : int64[groups, 3], per group of vectors of 16 outputs, first all real parts, then all imaginary ones: first
        vector, vectors (1 to `MAX_VECTORS`), first weight. weights : float32[:], per point and group
        [input block][lane][vector][16]; 64-byte aligned.
    work : float32[dense_elements(grid, n, inputs, blocks)] or more.

    Products are those of real numbers: rows of inputs are the real and the imaginary parts of tiles in turn.
    """
    blocks, inputs, half, size = bias.size // LANES, planes.size, grid.columns // 2 + 1, grid.tile * grid.tile
    listed, real, spectrum, first = _buffers(work, grid)
    m, slopes, all_bias = memory(arena, pixels, scratch, blocks, written), address_of(slope), address_of(bias)
    patch, numbers, out, all_weights = (
        address_of(real), address_of(spectrum), address_of(work) + first * 4, address_of(weights),
    )  # fmt: skip
    room, kept, count = 2 * grid.together, _kept_columns(points, half), grid.rows * half
    input_step, output_row = inputs * room * VECTOR_BYTES, 2 * blocks * VECTOR_BYTES
    spectra = out + blocks * min(grid.tile, grid.height) * min(grid.tile, grid.width) * VECTOR_BYTES
    products, zeros = spectra + points.size * input_step, address_of(work)
    tiles, total = pixels.shape[0] // size, 0
    for start in range(0, tiles, grid.together):
        some = min(grid.together, tiles - start)
        for t in range(some):
            place = m.listed + (start + t) * size * 8
            for i in range(inputs):
                _load(m, source, planes[i], read_int(place), read_int(place + 4), grid, patch)
                _forward(real, spectrum, axes, kept)
                _part_points(numbers, points, spectra + (i * room + 2 * t) * VECTOR_BYTES, input_step)
        _multiply(
            points.size, inputs, spectra, input_step, 2 * some, room, spans, all_weights, weights.size // points.size,
            zeros, products, room * output_row, output_row,
        )  # fmt: skip
        for t in range(some):
            place = m.listed + (start + t) * size * 8
            top, left = read_int(place), read_int(place + 4)
            rows, columns = min(grid.tile, grid.height - top), min(grid.tile, grid.width - left)
            for b in range(blocks):
                _sum_points(
                    numbers, count, points, products + 2 * t * output_row + b * VECTOR_BYTES, room * output_row,
                    output_row, blocks * VECTOR_BYTES,
                )  # fmt: skip
                _backward(spectrum, real, axes, kept, rows)
                _keep(patch, grid, rows, columns, out + b * rows * columns * VECTOR_BYTES)
            total += _finish(m, act, slopes, all_bias, target, top, left, rows, columns, out, listed, test)
    return total
