"""Element-wise work on listed pixels: two maps combined, or one scaled and shifted per channel.

Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import ADD, MAX, MUL, SUB, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Test, finish_chunk
from kernels.simd import lane_add, lane_fma, lane_max, lane_min, lane_mul, lane_sub

__all__ = ["affine", "combine"]


@jit
def combine(
    op: int, arena: np.ndarray, first: Map, first_planes: np.ndarray, second: Map, second_planes: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """Combine two maps at the listed pixels; activate, compare, write as `convolve` does.

    op : ADD, SUB, MUL, MAX or MIN of `kernels.constants`. arena : float32[:].
    first, second : maps; one with row and pixel strides of 0 is broadcast over all pixels.
    first_planes, second_planes : int64[blocks], element offset of each block from its map's origin.
    slope : float32[blocks * 16], read for PReLU alone. pixels : int32[n, 2], (y, x) in the target.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. MAX and MIN give the second value where the two do not compare.
    """
    blocks, total = first_planes.size, 0
    base, raw = arena.ctypes.data, scratch.ctypes.data
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            a_pixel = base + (first.origin + y * first.row + x * first.pixel) * 4
            b_pixel = base + (second.origin + y * second.row + x * second.pixel) * 4
            for block in range(blocks):
                result = raw + (p * blocks + block) * VECTOR_BYTES
                a = a_pixel + first_planes[block] * 4
                b = b_pixel + second_planes[block] * 4
                if op == ADD:
                    lane_add(result, a, b)
                elif op == SUB:
                    lane_sub(result, a, b)
                elif op == MUL:
                    lane_mul(result, a, b)
                elif op == MAX:
                    lane_max(result, a, b)
                else:
                    lane_min(result, a, b)
        total += finish_chunk(arena, scratch, blocks, act, slope, target, pixels, start, count, test, written)
    return total


@jit
def affine(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: np.ndarray, shift: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """scale * x + shift at the listed pixels; activate, compare, write as `convolve` does.

    planes : int64[blocks], element offset of each block from the source's origin.
    scale, shift : float32[blocks * 16]. A scale of 1 and a shift of -0.0 keep every bit: an activation alone.
    The rest as in `combine`. Returns the number of pixels written.
    """
    blocks, total = planes.size, 0
    base, raw = arena.ctypes.data, scratch.ctypes.data
    scales, shifts = scale.ctypes.data, shift.ctypes.data
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            pixel = base + (source.origin + y * source.row + x * source.pixel) * 4
            for b in range(blocks):
                lane = b * VECTOR_BYTES
                result = raw + p * blocks * VECTOR_BYTES + lane
                lane_fma(result, pixel + planes[b] * 4, scales + lane, shifts + lane)
        total += finish_chunk(arena, scratch, blocks, act, slope, target, pixels, start, count, test, written)
    return total
