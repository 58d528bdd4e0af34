"""Mean and maximum over a whole map, of which only rows that changed are read again.

The caller keeps one partial result per row; rows are always added in the same order, so the result has the
bits of a full recompute. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import Act, Map, Memory, Test, address_table, finish_pixels
from kernels.simd import address_of, lane_divide, lane_fill, reduce_add, reduce_max, table_set

__all__ = ["global_average", "global_max"]


@jit
def _reduce(
    maximum: bool, arena: np.ndarray, source: Map, planes: np.ndarray, width: int, rows_stale: np.ndarray,
    partials: np.ndarray, scratch: np.ndarray,
) -> None:  # fmt: skip
    """Refresh the partial results of stale rows, then fold all rows into the first pixel of scratch."""
    base, raw, rows = address_of(arena), address_of(scratch), address_of(partials)
    row_bytes = planes.size * VECTOR_BYTES
    height = rows_stale.size
    empty = np.float32(-np.inf if maximum else 0.0)
    for y in range(height):
        if rows_stale[y] == 0:
            continue
        for b in range(planes.size):
            partial = rows + y * row_bytes + b * VECTOR_BYTES
            at = base + (source.origin + planes[b] + y * source.row) * 4
            lane_fill(partial, empty)
            if maximum:
                reduce_max(partial, at, source.pixel * 4, width)
            else:
                reduce_add(partial, at, source.pixel * 4, width)
    for b in range(planes.size):
        result = raw + b * VECTOR_BYTES
        lane_fill(result, empty)
        if maximum:
            reduce_max(result, rows + b * VECTOR_BYTES, row_bytes, height)
        else:
            reduce_add(result, rows + b * VECTOR_BYTES, row_bytes, height)
            lane_divide(result, result, np.float32(height * width))


@jit
def _finish(
    arena: np.ndarray, blocks: int, slope: np.ndarray, target: Map, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Activate, compare, write the only pixel."""
    origin = address_table()
    table_set(origin, 0, 0)  # (0, 0) as two int32: a list of one pixel
    m = Memory(address_of(arena), origin, address_of(scratch), blocks, address_of(written), 1, 1)
    return finish_pixels(m, act, address_of(slope), target, 0, 1, test)


@jit
def global_average(
    arena: np.ndarray, source: Map, planes: np.ndarray, width: int, rows_stale: np.ndarray,
    partials: np.ndarray, slope: np.ndarray, target: Map, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Mean of the whole map into pixel (0, 0) of the target; activate, compare, write as `convolve` does.

    arena : float32[:]. planes : int64[blocks], element offset of each block from the source's origin.
    width : of the map in pixels. rows_stale : uint8[H], rows that changed since the last call.
    partials : float32[H, blocks * 16], C-contiguous, kept by the caller; stale rows are summed again.
    slope : float32[blocks * 16], read for PReLU alone. scratch : float32[scratch_elements(blocks)].
    written : uint8[1, 1]. Returns 1 if the target was written, else 0.
    """
    _reduce(False, arena, source, planes, width, rows_stale, partials, scratch)
    return _finish(arena, planes.size, slope, target, act, test, scratch, written)


@jit
def global_max(
    arena: np.ndarray, source: Map, planes: np.ndarray, width: int, rows_stale: np.ndarray,
    partials: np.ndarray, slope: np.ndarray, target: Map, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Maximum of the whole map into pixel (0, 0) of the target; arguments as in `global_average`."""
    _reduce(True, arena, source, planes, width, rows_stale, partials, scratch)
    return _finish(arena, planes.size, slope, target, act, test, scratch, written)
