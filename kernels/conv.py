"""Direct convolution of listed output pixels: any kernel size, stride, dilation, padding and groups.

No matrix is built. A call gathers `PIXELS` output pixels from anywhere in the map. One table of tap offsets
per group of output blocks covers kernel size, dilation and groups, reads from several maps as if they were
concatenated, and leaves out input blocks that a group does not see. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import STORE, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Test, clear_metrics, commit_chunk
from kernels.simd import (
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
    make_table,
    table_get,
    table_set,
)
from kernels.target import PIXELS

__all__ = ["convolve", "convolve_depthwise"]


address_table = make_table(CHUNK)


@jit
def address_chunk(
    arena: np.ndarray, source: Map, target: Map, pixels: np.ndarray, start: int, slots: int, count: int,
    stride_y: int, stride_x: int, bases: int, outs: int,
) -> None:  # fmt: skip
    """Byte addresses of the input corner and the output of each pixel; spare slots repeat the last pixel.

    bases, outs : addresses of tables of `CHUNK` int64.
    """
    read, write = arena.ctypes.data + source.origin * 4, arena.ctypes.data + target.origin * 4
    read_y, read_x = stride_y * source.row * 4, stride_x * source.pixel * 4
    write_y, write_x = target.row * 4, target.pixel * 4
    corner, out = np.int64(0), np.int64(0)
    for i in range(count):
        p = np.uint64(start + i)  # an unsigned index skips the check for a negative one
        y, x = np.int64(pixels[p, 0]), np.int64(pixels[p, 1])
        corner, out = read + y * read_y + x * read_x, write + y * write_y + x * write_x
        table_set(bases, i, corner)
        table_set(outs, i, out)
    for i in range(count, slots):
        table_set(bases, i, corner)
        table_set(outs, i, out)


@jit
def _dense(
    lanes: int, vectors: int, bases: int, taps: int, count: int, w: int, bias: int, act: Act, slope: int,
    mode: int, outs: int, shift: int, plane: int, scratch: int, row: int, metric: int,
) -> None:  # fmt: skip
    """Call the micro-kernel made for this many lanes per tap and vectors of outputs."""
    kind, a, b = act.kind, np.float32(act.alpha), np.float32(act.beta)
    if lanes == 16:
        if vectors == 3:
            dense_16x3(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
        elif vectors == 2:
            dense_16x2(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
        else:
            dense_16x1(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
    elif lanes == 3:
        if vectors == 3:
            dense_3x3(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
        elif vectors == 2:
            dense_3x2(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
        else:
            dense_3x1(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
    else:
        if vectors == 3:
            dense_1x3(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
        elif vectors == 2:
            dense_1x2(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip
        else:
            dense_1x1(
                bases, taps, count, w, bias, kind, a, b, slope, mode, outs, shift, plane, scratch, row, metric
            )  # fmt: skip


@jit
def convolve(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, lanes: int, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve at the listed output pixels, activate, compare with the stored values, write what passes.

    arena : float32[:], holds source and target maps; the source's border of zeros covers every tap.
    taps : int64[:], byte offsets from a pixel's input corner; each reads `lanes` channels (16, 3 or 1).
    spans : int64[groups, 5], per group of output blocks: first block, blocks (1 to 3), first tap, taps, first
        weight.
    weights : float32[:], per group [tap][lane][block][16]; 64-byte aligned.
    bias, slope : float32[blocks * 16]; slope is read for PReLU alone.
    pixels : int32[n, 2], (y, x) in the target; whole blocks of `test.block` squared pixels in a row.
    scratch : float32[scratch_elements(blocks)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. Arithmetic per output: bias, then taps and lanes in table order,
    fused.
    """
    blocks = bias.size // 16
    bases, outs = address_table(), address_table()
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
                    lanes, vectors, bases + slot * 8, taps.ctypes.data + tap * 8, tap_count, w,
                    bias.ctypes.data + lane_bytes, act, slope.ctypes.data + lane_bytes, test.mode,
                    outs + slot * 8, first * plane, plane, candidates + slot * row + lane_bytes,
                    row, metrics + slot * VECTOR_BYTES,
                )  # fmt: skip
        total += commit_chunk(arena, scratch, blocks, target, pixels, start, count, test, written)
    return total


@jit
def convolve_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Depthwise convolution at the listed output pixels; arguments as in `convolve`, but for

    planes : int64[blocks], element offset of each input block from the source's origin.
    taps : int64[k], byte offsets. weights : float32[blocks, k, 16].
    """
    blocks, count_taps = planes.size, taps.size
    bases, outs, shifted = address_table(), address_table(), address_table()
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
                table_set(shifted, i, table_get(bases, i) + planes[b] * 4)
            w = weights.ctypes.data + b * count_taps * VECTOR_BYTES
            lane_bytes = b * VECTOR_BYTES
            for c in range(calls):
                slot = c * PIXELS
                depthwise_block(
                    shifted + slot * 8, taps.ctypes.data, count_taps, w, bias.ctypes.data +
                    lane_bytes, kind, alpha, beta, slope.ctypes.data + lane_bytes, test.mode, outs
                    + slot * 8, b * plane, plane, candidates + slot * row + lane_bytes, row, metrics + slot *
                    VECTOR_BYTES,
                )  # fmt: skip
        total += commit_chunk(arena, scratch, blocks, target, pixels, start, count, test, written)
    return total
