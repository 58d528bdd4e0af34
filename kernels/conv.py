"""Direct convolution of listed output pixels: any kernel size, stride, dilation, padding and groups; no matrix is built.

A call gathers `PIXELS` output pixels from anywhere in the map. One table of tap offsets per group of output blocks
covers kernel size, dilation and groups, reads from several maps as if they were concatenated, and leaves out input
blocks that a group does not see. Knows arrays and ints only.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.layout import CHUNK, Act, Map, Test, clear_metrics, commit_chunk
from kernels.simd import (
    STORE,
    VECTOR_BYTES,
    dense_1x1,
    dense_1x2,
    dense_1x3,
    dense_3x1,
    dense_3x2,
    dense_3x3,
    dense_16x1,
    dense_16x2,
    dense_16x3,
    depthwise_block,
)
from kernels.target import PIXELS

__all__ = ["convolve", "convolve_depthwise"]


@numba.njit(nogil=True, cache=True)
def address_chunk(
    arena: np.ndarray, source: Map, target: Map, pixels: np.ndarray, start: int, slots: int, count: int,
    stride_y: int, stride_x: int, bases: np.ndarray, outs: np.ndarray,
) -> None:  # fmt: skip
    """Byte addresses of the input corner and the output of each pixel; spare slots repeat the last pixel."""
    base = arena.ctypes.data
    for i in range(slots):
        p = start + min(i, count - 1)
        y, x = np.int64(pixels[p, 0]), np.int64(pixels[p, 1])
        bases[i] = base + (source.origin + y * stride_y * source.row + x * stride_x * source.pixel) * 4
        outs[i] = base + (target.origin + y * target.row + x * target.pixel) * 4


@numba.njit(nogil=True, cache=True)
def _dense(lanes, vectors, bases, taps, count, w, bias, act, slope, mode, outs, shift, plane, s, srow, metric):  # type: ignore[no-untyped-def]
    kind, a, b = act.kind, np.float32(act.alpha), np.float32(act.beta)
    if lanes == 16:
        if vectors == 3:
            dense_16x3(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
        elif vectors == 2:
            dense_16x2(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
        else:
            dense_16x1(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
    elif lanes == 3:
        if vectors == 3:
            dense_3x3(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
        elif vectors == 2:
            dense_3x2(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
        else:
            dense_3x1(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
    else:
        if vectors == 3:
            dense_1x3(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
        elif vectors == 2:
            dense_1x2(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)
        else:
            dense_1x1(bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, s, srow, metric)


@numba.njit(nogil=True, cache=True)
def convolve(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, lanes: int, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int, act: Act,
    test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve at the listed output pixels, activate, compare with the stored values, write what passes.

    arena : float32[:], holds source and target maps; the source's border of zeros covers every tap.
    taps : int64[:], byte offsets from a pixel's input corner; each reads `lanes` channels (16, 3 or 1).
    spans : int64[groups, 5], per group of output blocks: first block, blocks (1 to 3), first tap, taps, first weight.
    weights : float32[:], per group [tap][lane][block][16]; 64-byte aligned.
    bias, slope : float32[blocks * 16]; slope is read for PReLU alone.
    pixels : int32[n, 2], (y, x) in the target; whole blocks of `test.block` squared pixels in a row.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. Arithmetic per output: bias, then taps and lanes in table order, fused.
    """
    blocks = bias.size // 16
    bases, outs = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    candidates, row = scratch.ctypes.data, blocks * VECTOR_BYTES
    metrics = candidates + CHUNK * row
    plane, total = target.plane * 4, 0
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        calls = (count + PIXELS - 1) // PIXELS
        address_chunk(arena, source, target, pixels, start, calls * PIXELS, count, stride_y, stride_x, bases, outs)
        if test.mode != STORE:
            clear_metrics(scratch, blocks)
        for g in range(spans.shape[0]):
            first, vectors, tap, tap_count = spans[g, 0], spans[g, 1], spans[g, 2], spans[g, 3]
            w = weights.ctypes.data + spans[g, 4] * 4
            lane_bytes = first * VECTOR_BYTES
            for c in range(calls):
                slot = c * PIXELS
                _dense(
                    lanes, vectors, bases.ctypes.data + slot * 8, taps.ctypes.data + tap * 8, tap_count, w,
                    bias.ctypes.data + lane_bytes, act, slope.ctypes.data + lane_bytes, test.mode,
                    outs.ctypes.data + slot * 8, first * plane, plane, candidates + slot * row + lane_bytes, row,
                    metrics + slot * VECTOR_BYTES,
                )  # fmt: skip
        total += commit_chunk(arena, scratch, blocks, target, pixels, start, count, test, written)
    return total


@numba.njit(nogil=True, cache=True)
def convolve_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int, act: Act, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Depthwise convolution at the listed output pixels; arguments as in `convolve`, but for

    planes : int64[blocks], element offset of each input block from the source's origin.
    taps : int64[k], byte offsets. weights : float32[blocks, k, 16].
    """
    blocks, count_taps = planes.size, taps.size
    bases, outs = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    shifted = np.empty(CHUNK, np.int64)
    candidates, row = scratch.ctypes.data, blocks * VECTOR_BYTES
    metrics = candidates + CHUNK * row
    plane, total = target.plane * 4, 0
    kind, alpha, beta = act.kind, np.float32(act.alpha), np.float32(act.beta)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        calls = (count + PIXELS - 1) // PIXELS
        address_chunk(arena, source, target, pixels, start, calls * PIXELS, count, stride_y, stride_x, bases, outs)
        if test.mode != STORE:
            clear_metrics(scratch, blocks)
        for b in range(blocks):
            for i in range(calls * PIXELS):
                shifted[i] = bases[i] + planes[b] * 4
            w = weights.ctypes.data + b * count_taps * VECTOR_BYTES
            lane_bytes = b * VECTOR_BYTES
            for c in range(calls):
                slot = c * PIXELS
                depthwise_block(
                    shifted.ctypes.data + slot * 8, taps.ctypes.data, count_taps, w, bias.ctypes.data + lane_bytes,
                    kind, alpha, beta, slope.ctypes.data + lane_bytes, test.mode, outs.ctypes.data + slot * 8,
                    b * plane, plane, candidates + slot * row + lane_bytes, row, metrics + slot * VECTOR_BYTES,
                )  # fmt: skip
        total += commit_chunk(arena, scratch, blocks, target, pixels, start, count, test, written)
    return total
