"""Nearest and bilinear resizing of listed output pixels, by index tables made at plan time.

Every coordinate convention is in the tables. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Test, finish_chunk
from kernels.simd import lane_copy, lane_lerp

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
    base, raw = arena.ctypes.data, scratch.ctypes.data
    lower = np.empty(16, np.float32)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = pixels[start + p, 0], pixels[start + p, 1]
            top = base + (source.origin + rows[y, 0] * source.row) * 4
            down = (np.int64(rows[y, 1]) - np.int64(rows[y, 0])) * source.row * 4
            left, right = columns[x, 0] * source.pixel * 4, columns[x, 1] * source.pixel * 4
            row_weight, column_weight = row_weights[y], column_weights[x]
            for b in range(blocks):
                result = raw + (p * blocks + b) * VECTOR_BYTES
                at = top + planes[b] * 4
                if column_weight == 0:
                    lane_copy(result, at + left)
                else:
                    lane_lerp(result, at + left, at + right, column_weight)
                if row_weight == 0:
                    continue
                at += down
                if column_weight == 0:
                    lane_lerp(result, result, at + left, row_weight)
                else:
                    lane_lerp(lower.ctypes.data, at + left, at + right, column_weight)
                    lane_lerp(result, result, lower.ctypes.data, row_weight)
        total += finish_chunk(arena, scratch, blocks, act, slope, target, pixels, start, count, test, written)
    return total
