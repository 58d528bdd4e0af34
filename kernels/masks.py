"""Masks of stale pixels: projected from a reader's input to its output, and turned into lists of pixels.

A mask is uint8[H, W], C-contiguous, 0 or 1. Knows neither feature maps nor kernels.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import VECTOR_BYTES
from kernels.jit import jit
from kernels.simd import lane_any_bits, or_bytes, or_even_bytes

__all__ = ["list_pixels", "project"]


@jit
def _padded(width: int) -> int:
    """Bytes of a row buffer that whole vectors may read and write past `width`."""
    return (width // VECTOR_BYTES + 2) * VECTOR_BYTES


@jit
def _or_row(buffer: np.ndarray, mask: np.ndarray, y: int) -> None:
    """buffer |= mask[y], never reading past the row."""
    width = mask.shape[1]
    vectors = width // VECTOR_BYTES
    or_bytes(buffer.ctypes.data, mask.ctypes.data + y * width, vectors)
    for x in range(vectors * VECTOR_BYTES, width):
        buffer[x] |= mask[y, x]


@jit
def any_in_row(mask: np.ndarray, y: int) -> bool:
    width = mask.shape[1]
    address = mask.ctypes.data + y * width
    vectors = width // VECTOR_BYTES
    for v in range(vectors):
        if lane_any_bits(address + v * VECTOR_BYTES):
            return True
    rest = np.uint8(0)
    for x in range(vectors * VECTOR_BYTES, width):
        rest |= mask[y, x]
    return bool(rest != 0)


@jit
def _regular_columns(low: np.ndarray, high: np.ndarray) -> tuple[int, int, int]:
    """First column, end and stride of the longest run of ranges of the widest size that advance evenly.

    Clipped ranges at the edges of the map fall outside it. A stride of 0 means that there is no such run.
    """
    width = 0
    for x in range(low.size):
        width = max(width, high[x] - low[x] + 1)
    first = 0
    while first < low.size and high[first] - low[first] + 1 < width:
        first += 1
    if width == 0 or first + 1 >= low.size:
        return 0, 0, 0
    stride = low[first + 1] - low[first]
    end = first + 1
    while end < low.size and low[end] - low[end - 1] == stride and high[end] - low[end] + 1 == width:
        end += 1
    return first, end, stride


@jit
def _project_some(
    row: np.ndarray, low: np.ndarray, high: np.ndarray, step: int, first: int, end: int, out: np.ndarray
) -> None:
    """out[x] |= any(row[low[x] : high[x] + 1 : step]) for columns first to end - 1."""
    for x in range(first, end):
        if low[x] == high[x]:
            out[x] |= row[low[x]]
            continue
        for i in range(low[x], high[x] + 1, step):
            out[x] |= row[i]


@jit
def _gather_rows(row: np.ndarray, mask: np.ndarray, marked: np.ndarray, low: int, high: int, step: int) -> bool:
    """row = OR of the mask's rows low to high; False, and `row` untouched, when none of them is marked."""
    found = False
    for i in range(low, high + 1, step):
        if marked[i]:
            if not found:
                row[:] = 0
                found = True
            _or_row(row, mask, i)
    return found


@jit
def project(
    mask: np.ndarray, row_low: np.ndarray, row_high: np.ndarray, row_step: int, col_low: np.ndarray,
    col_high: np.ndarray, col_step: int, stale: np.ndarray,
) -> None:  # fmt: skip
    """Mark the outputs that read a marked input: stale[y, x] |= any(mask[rows of y, columns of x]).

    mask : uint8[Hin, Win] of 0 and 1. stale : uint8[Hout, Wout], only ever set.
    row_low, row_high : int32[Hout], inclusive range of input rows of each output row, inside the mask; low >
        high is an empty range. row_step : distance between the rows read (the dilation).
    col_low, col_high, col_step : the same for columns, int32[Wout].
    """
    height, width = stale.shape
    marked = np.empty(mask.shape[0], np.bool_)
    for y in range(mask.shape[0]):
        marked[y] = any_in_row(mask, y)
    first, end, stride = _regular_columns(col_low, col_high)
    if stride not in (1, 2):
        first, end = 0, 0
    vectors = (end - first + VECTOR_BYTES - 1) // VECTOR_BYTES
    row = np.empty(max(_padded(mask.shape[1]), mask.shape[1] + 2 * VECTOR_BYTES * (stride + 1)), np.uint8)
    out = np.empty(_padded(width) + VECTOR_BYTES, np.uint8)
    found = False
    for y in range(height):
        if y == 0 or row_low[y] != row_low[y - 1] or row_high[y] != row_high[y - 1]:
            found = _gather_rows(row, mask, marked, row_low[y], row_high[y], row_step)
            if found:
                out[:] = 0
                if vectors > 0:
                    for i in range(col_low[first], col_high[first] + 1, col_step):
                        if stride == 1:
                            or_bytes(out.ctypes.data + first, row.ctypes.data + i, vectors)
                        else:
                            or_even_bytes(out.ctypes.data + first, row.ctypes.data + i, vectors)
                    out[end:] = 0  # whole vectors wrote past the run
                _project_some(row, col_low, col_high, col_step, 0, first, out)
                _project_some(row, col_low, col_high, col_step, end, width, out)
        if found:
            whole = width // VECTOR_BYTES
            or_bytes(stale.ctypes.data + y * width, out.ctypes.data, whole)
            for x in range(whole * VECTOR_BYTES, width):
                stale[y, x] |= out[x]


@jit
def _list_row(
    buffer: np.ndarray, block: int, top: int, height: int, width: int, pixels: np.ndarray, listed: int
) -> int:
    """Append one row of blocks, those whose columns hold a mark in `buffer`; returns the new length."""
    words = buffer.view(np.uint64)
    for word in range((width + 7) // 8):
        if words[word] == 0:
            continue
        for left in range(word * 8, min(word * 8 + 8, width), block):
            hit = np.uint8(0)
            for x in range(left, left + block):
                hit |= buffer[x]
            if hit == 0:
                continue
            for y in range(top, top + block):
                row = np.int32(min(y, height - 1))
                for x in range(left, left + block):
                    pixels[listed, 0] = row
                    pixels[listed, 1] = np.int32(min(x, width - 1))
                    listed += 1
    return listed


@jit
def list_pixels(stale: np.ndarray, block: int, pixels: np.ndarray) -> tuple[int, int]:
    """List the pixels of every aligned `block` x `block` block that holds a stale pixel, block after block.

    stale : uint8[H, W]. block : 1, 2, 4 or 8. pixels : int32[capacity, 2], filled with (y, x) in row-major
        order within a block; coordinates past the map's end are clamped to it, so that every block has block
        * block entries.

    Returns the entries listed and the distinct pixels of the map among them.
    Raises ValueError for another block, or when `pixels` could not hold a map that is stale everywhere.
    """
    if block not in (1, 2, 4, 8):
        raise ValueError("expected a block of 1, 2, 4 or 8 pixels")
    height, width = stale.shape
    rows, columns = (height + block - 1) // block, (width + block - 1) // block
    if pixels.shape[0] < rows * columns * block * block:
        raise ValueError("expected room for every block of the map in pixels")
    listed, distinct = 0, 0
    buffer = np.zeros(_padded(width), np.uint8)
    for block_y in range(rows):
        top = block_y * block
        bottom = min(top + block, height)
        found = False
        for y in range(top, bottom):
            if any_in_row(stale, y):
                if not found:
                    buffer[:] = 0
                    found = True
                _or_row(buffer, stale, y)
        if found:
            before = listed
            listed = _list_row(buffer, block, top, height, width, pixels, listed)
            for i in range(before, listed, block * block):
                right = min(pixels[i, 1] + block, width)
                distinct += (bottom - top) * (right - pixels[i, 1])
    return listed, distinct
