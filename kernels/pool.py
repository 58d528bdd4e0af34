"""Max and average pooling of listed output pixels.

Windows are clipped to the map, since its border holds zeros that must not win a maximum. Taps are taken row
by row, whatever the list. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import IDENTITY, LOWEST, STORE, VECTOR_BYTES
from kernels.jit import jit, jit_inlined
from kernels.layout import (
    Act,
    Finish,
    Map,
    Memory,
    Test,
    Window,
    activation,
    address_table,
    chunk_pixels,
    commit_pixels,
    exits,
    fill_addresses,
    finish_raw,
    memory,
    raw_of,
    reset_metrics,
)
from kernels.micro import fold_add, fold_max
from kernels.simd import address_of, lane_fill, read_int, table_set
from kernels.target import PIXELS

__all__ = ["pool_average", "pool_max"]

_Exits = tuple[int, int, int, int, int, int, int]


@jit
def _span(start: int, kernel: int, dilation: int, low: int, high: int) -> tuple[int, int]:
    """First tap of which start + tap * dilation is at least `low`, and the end of those below `high`."""
    first = 0 if start >= low else (low - start + dilation - 1) // dilation
    end = 0 if start >= high else (high - start + dilation - 1) // dilation
    return first, max(min(end, kernel), first)


@jit_inlined
def _fold(
    maximum: bool, bases: int, shift: int, taps: int, count: int, divisor: float, act: Finish, to: _Exits
) -> None:
    """Call the micro-kernel of the maximum or that of the mean."""
    if maximum:
        fold_max(bases, shift, taps, count, np.float32(divisor), act, to)
    else:
        fold_add(bases, shift, taps, count, np.float32(divisor), act, to)


@jit
def _window_taps(source: Map, window: Window, rows: int, columns: int, taps: int) -> None:
    """Byte offsets of so many rows and columns of a window, row by row, into the table `taps`."""
    for i in range(rows):
        for j in range(columns):
            offset = (i * window.dilation_y * source.row + j * window.dilation_x * source.pixel) * 4
            table_set(taps, i * columns + j, offset)


@jit
def _clipped(
    m: Memory, maximum: bool, include_pad: bool, source: Map, planes: np.ndarray, height: int, width: int,
    window: Window, top: int, left: int, taps: int, raw: int,
) -> None:  # fmt: skip
    """One window that reaches past the map, several blocks at a time, into `raw`. taps : room for its offsets."""
    bases, outs = address_table(), address_table()
    y0, y1 = _span(top, window.kernel_y, window.dilation_y, 0, height)
    x0, x1 = _span(left, window.kernel_x, window.dilation_x, 0, width)
    positions = (y1 - y0) * (x1 - x0)
    if positions == 0:
        for b in range(m.blocks):
            lane_fill(raw + b * VECTOR_BYTES, np.float32(LOWEST if maximum else 0.0))
        return
    _window_taps(source, window, y1 - y0, x1 - x0, taps)
    counted = positions
    if include_pad:
        low_y, high_y = _span(top, window.kernel_y, window.dilation_y, -window.top, height + window.bottom)
        low_x, high_x = _span(left, window.kernel_x, window.dilation_x, -window.left, width + window.right)
        counted = (high_y - low_y) * (high_x - low_x)
    plain = (IDENTITY, np.float32(0), np.float32(0), 0, 0, 0)
    first = (top + y0 * window.dilation_y) * source.row + (left + x0 * window.dilation_x) * source.pixel
    corner = m.base + (source.origin + first) * 4
    for block in range(0, m.blocks, PIXELS):
        for i in range(PIXELS):
            b = min(block + i, m.blocks - 1)
            table_set(bases, i, corner + planes[b] * 4)
            table_set(outs, i, raw + b * VECTOR_BYTES)
        _fold(maximum, bases, 0, taps, positions, counted, plain, (STORE, outs, 0, 0, 0, 0, 0))


@jit
def _whole_windows(pad: int, kernel: int, dilation: int, stride: int, size: int) -> tuple[int, int]:
    """First and last output along an axis whose window lies in the map as a whole."""
    return (pad + stride - 1) // stride, (size - 1 - (kernel - 1) * dilation + pad) // stride


@jit
def _pool(
    maximum: bool, include_pad: bool, arena: np.ndarray, source: Map, planes: np.ndarray, height: int,
    width: int, window: Window, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Calls whose windows all lie in the map go straight; others through raw values in scratch."""
    blocks, size, total = planes.size, window.kernel_y * window.kernel_x, 0
    bases, outs = address_table(), address_table()
    offsets = np.empty(2 * size, np.int64)  # of a whole window, then of a clipped one
    taps = address_of(offsets)
    m, slopes = memory(arena, pixels, scratch, blocks, written), address_of(slope)
    _window_taps(source, window, window.kernel_y, window.kernel_x, taps)
    # Of the window's corner, which may lie outside the map: read only where it does not.
    corner = Map(
        source.origin - window.top * source.row - window.left * source.pixel, source.plane, source.row, source.pixel
    )
    first_y, last_y = _whole_windows(window.top, window.kernel_y, window.dilation_y, window.stride_y, height)
    first_x, last_x = _whole_windows(window.left, window.kernel_x, window.dilation_x, window.stride_x, width)
    chunk = chunk_pixels(test)
    for start in range(0, pixels.shape[0], chunk):
        count = min(chunk, pixels.shape[0] - start)
        fill_addresses(m, corner, window.stride_y, window.stride_x, start, count, bases)
        fill_addresses(m, target, 1, 1, start, count, outs)
        reset_metrics(m, test)
        for slot in range(0, count, PIXELS):
            whole = True
            for p in range(slot, min(slot + PIXELS, count)):
                entry = m.listed + (start + p) * 8
                y, x = read_int(entry), read_int(entry + 4)
                whole &= first_y <= y <= last_y and first_x <= x <= last_x
            if whole:
                for b in range(blocks):
                    finish, to = activation(act, slopes, b), exits(m, target, test, outs, slot, b)
                    _fold(maximum, bases + slot * 8, planes[b] * 4, taps, size, size, finish, to)
                continue
            for p in range(slot, min(slot + PIXELS, count)):
                entry, raw = m.listed + (start + p) * 8, raw_of(m, p)
                top = read_int(entry) * window.stride_y - window.top
                left = read_int(entry + 4) * window.stride_x - window.left
                _clipped(
                    m, maximum, include_pad, source, planes, height, width, window, top, left, taps + size * 8, raw
                )
            finish_raw(m, act, slopes, target, test, outs, slot, slot + PIXELS, count)
        total += commit_pixels(m, target, start, count, test, outs)
    offsets[0] = 0  # keeps it until here: numba frees an array after its last use, not after that of its address
    return total


@jit
def pool_max(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Largest value of each window at the listed output pixels; activate, compare, write as `convolve` does.

    arena : float32[:]. source : its origin is the map's own (0, 0), not a padded corner.
    planes : int64[blocks], element offset of each input block from the source's origin.
    height, width : size of the source map in pixels. window : sizes and padding; bottom and right are not
        used.
    slope : float32[blocks * 16], read for PReLU alone. pixels : int32[n, 2], (y, x) in the target.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. A window wholly outside the map gives the lowest finite
    value, as ONNX Runtime does; NaN never wins.
    """
    return _pool(
        True, False, arena, source, planes, height, width, window, slope, target, pixels, act, test, scratch,
        written,
    )  # fmt: skip


@jit
def pool_average(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window,
    include_pad: bool, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Mean of each window at the listed output pixels; arguments as in `pool_max`, but for

    include_pad : whether positions in the padding count in the divisor; positions beyond the padded map never
        do.

    A window wholly outside the map gives 0. Sums run row by row from 0, then one division.
    """
    return _pool(
        False, include_pad, arena, source, planes, height, width, window, slope, target, pixels, act, test,
        scratch, written,
    )  # fmt: skip
