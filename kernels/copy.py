"""Moving values without arithmetic, at listed pixels: slices, padding, and channels in a new order.

Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import IDENTITY, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Test, finish_chunk
from kernels.simd import lane_copy, lane_fill

__all__ = ["copy_pixels", "pack_channels"]


@jit
def copy_pixels(
    arena: np.ndarray, source: Map, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Copy pixels from the rows and columns that two tables name; compare, write as `convolve` does.

    arena : float32[:]. planes : int64[blocks], element offset of each block from the source's origin.
    rows, columns : int32[Hout], int32[Wout], input row (column) of each output row (column); -1 gives zeros.
    pixels : int32[n, 2], (y, x) in the target. scratch : float32[scratch_elements(blocks)].
    written : uint8[H, W], set to 1 where the target changed. Returns the number of pixels written.
    """
    blocks, total = planes.size, 0
    base, raw = arena.ctypes.data, scratch.ctypes.data
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = rows[pixels[start + p, 0]], columns[pixels[start + p, 1]]
            pixel = base + (source.origin + y * source.row + x * source.pixel) * 4
            for b in range(blocks):
                result = raw + (p * blocks + b) * VECTOR_BYTES
                if y < 0 or x < 0:
                    lane_fill(result, np.float32(0))
                else:
                    lane_copy(result, pixel + planes[b] * 4)
        total += finish_chunk(
            arena, scratch, blocks, Act(IDENTITY, 0.0, 0.0), scratch, target, pixels, start, count, test,
            written
        )  # fmt: skip
    return total


@jit
def pack_channels(
    arena: np.ndarray, source: Map, channels: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Gather channels from anywhere in a map into new blocks; compare, write as `convolve` does.

    channels : int64[blocks * 16], element offset of each output lane's channel from the source's origin (its
        plane and lane together); -1 gives zeros. A source with origin 0 takes absolute offsets, of several
        maps that have the same strides.
    The rest as in `copy_pixels`. Returns the number of pixels written.
    """
    blocks, total = channels.size // 16, 0
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            pixel = source.origin + y * source.row + x * source.pixel
            result = p * channels.size
            for lane in range(channels.size):
                offset = channels[lane]
                scratch[result + lane] = np.float32(0) if offset < 0 else arena[pixel + offset]
        total += finish_chunk(
            arena, scratch, blocks, Act(IDENTITY, 0.0, 0.0), scratch, target, pixels, start, count, test,
            written
        )  # fmt: skip
    return total
