"""Nearest and bilinear resizing of listed output pixels, by index tables made at plan time.

Every coordinate convention is in the tables. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit
from kernels.layout import (
    Act,
    Map,
    Test,
    activation,
    address_table,
    chunk_pixels,
    commit_pixels,
    exits,
    fill_addresses,
    memory,
    reset_metrics,
)
from kernels.micro import interpolate_block, move_block
from kernels.simd import address_of, read_int, table_set, table_set_float
from kernels.target import PIXELS

__all__ = ["resize"]


@jit
def resize(
    arena: np.ndarray, source: Map, planes: np.ndarray, rows: np.ndarray, row_weights: np.ndarray,
    columns: np.ndarray, column_weights: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Interpolate at the listed output pixels; activate, compare, write as `convolve` does.

    arena : float32[:]. planes : int64[blocks], element offset of each block from the source's origin.
    rows, columns : int32[Hout, 2], int32[Wout, 2], the two input rows (columns) that an output row (column)
        lies between. row_weights, column_weights : float32[Hout], float32[Wout], weight of the second. A
        weight of 0 copies the first, bit for bit (nearest).
    slope : float32[blocks * 16], read for PReLU alone. pixels : int32[n, 2], (y, x) in the target.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. Columns are blended first, a + w * (b - a), then rows.
    """
    blocks, total = planes.size, 0
    above_left, above_right, below_left, below_right = (
        address_table(),
        address_table(),
        address_table(),
        address_table(),
    )
    across, down, outs = address_table(), address_table(), address_table()
    m, slopes = memory(arena, pixels, scratch, blocks, written), address_of(slope)
    base = m.base + source.origin * 4
    chunk = chunk_pixels(test)
    for start in range(0, pixels.shape[0], chunk):
        count = min(chunk, pixels.shape[0] - start)
        fill_addresses(m, target, 1, 1, start, count, outs)
        reset_metrics(m, test)
        for slot in range(0, count, PIXELS):
            nearest = True
            for i in range(slot, slot + PIXELS):
                entry = m.listed + (start + min(i, count - 1)) * 8
                y, x = read_int(entry), read_int(entry + 4)
                above, below = base + rows[y, 0] * source.row * 4, base + rows[y, 1] * source.row * 4
                left, right = columns[x, 0] * source.pixel * 4, columns[x, 1] * source.pixel * 4
                table_set(above_left, i, above + left)
                table_set(above_right, i, above + right)
                table_set(below_left, i, below + left)
                table_set(below_right, i, below + right)
                table_set_float(across, i, column_weights[x])
                table_set_float(down, i, row_weights[y])
                nearest &= column_weights[x] == 0 and row_weights[y] == 0
            at = slot * 8
            for b in range(blocks):
                finish, to = activation(act, slopes, b), exits(m, target, test, outs, slot, b)
                if nearest:
                    move_block(above_left + at, planes[b] * 4, finish, to)
                else:
                    corners = (above_left + at, above_right + at, below_left + at, below_right + at)
                    interpolate_block(corners, (across + at, down + at), planes[b] * 4, finish, to)
        total += commit_pixels(m, target, start, count, test, outs)
    return total
