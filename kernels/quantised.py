"""Convolution of listed pixels of byte maps: uint8 inputs, int8 weights, sums in int32, bytes out.

A byte map lies in the same arena as float maps and is addressed by the same `Map`: the 64 bytes (16 float32 elements)
of a pixel hold 64 channels, a *slot*. An image may have slots of 4 bytes: there a tap reads four pixels of a row. Zero
points are in the biases, so that borders are zeros as everywhere. Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.byte_maps import Exit, clear_slots, finish_slots
from kernels.constants import STORE, VECTOR_BYTES
from kernels.conv import address_chunk
from kernels.emit_int8 import BYTE_HOST, BYTE_VECTORS
from kernels.jit import jit, jit_inlined
from kernels.layout import CHUNK, Map, Test, address_table, commit_chunk
from kernels.simd import address_of, table_get, table_set
from kernels.simd_int8 import dense_bytes_1, dense_bytes_2, dense_bytes_3, depthwise_bytes
from kernels.target import PIXELS

__all__ = ["convolve_bytes", "convolve_bytes_depthwise"]

_PIXELS = tuple(BYTE_HOST.pixels[min(i, BYTE_VECTORS - 1)] for i in range(3))


@jit_inlined
def _dense(
    vectors: int, bases: int, taps: int, count: int, w: int, starts: int, scale: int, ending: Exit, outs: int,
    first: int, plane: int,
) -> None:  # fmt: skip
    """Call the micro-kernel made for this many vectors of outputs."""
    low, high, zero, shift = np.float32(ending.low), np.float32(ending.high), ending.zero, first * VECTOR_BYTES
    if vectors == 3:
        dense_bytes_3(bases, taps, count, w, starts, shift, scale, low, high, zero, outs, first, plane)
    elif vectors == 2:
        dense_bytes_2(bases, taps, count, w, starts, shift, scale, low, high, zero, outs, first, plane)
    else:
        dense_bytes_1(bases, taps, count, w, starts, shift, scale, low, high, zero, outs, first, plane)


@jit
def _address_biases(
    bias: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixels: np.ndarray, start: int, count: int, starts: int
) -> None:
    """Address of each pixel's row of biases, into a table of `CHUNK` int64; spare slots repeat the last."""
    address, row = address_of(bias), bias.shape[1] * 4
    last = np.int64(0)
    for i in range(count):
        p = np.uint64(start + i)  # an unsigned index skips the check for a negative one
        y, x = np.uint64(pixels[p, 0]), np.uint64(pixels[p, 1])
        last = address + (np.int64(rows[y]) + np.int64(columns[x])) * row
        table_set(starts, i, last)
    for i in range(count, CHUNK):
        table_set(starts, i, last)


@jit
def _address_candidates(scratch: np.ndarray, slots: int, outs: int) -> None:
    """Address of each candidate's first slot, into a table of `CHUNK` int64."""
    for i in range(CHUNK):
        table_set(outs, i, address_of(scratch) + i * slots * VECTOR_BYTES)


@jit
def convolve_bytes(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    rows: np.ndarray, columns: np.ndarray, scale: np.ndarray, ending: Exit, table: np.ndarray, target: Map,
    pixels: np.ndarray, stride_y: int, stride_x: int, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Convolve bytes at the listed output pixels, requantise, look up, compare with the stored ones, write.

    arena : float32[:], holds source and target maps; the source's border of zeros covers every tap.
    taps : int64[:], byte offsets from a pixel's input corner; each reads 16 channels.
    spans : int64[groups, 5], per group of output vectors (16 channels): first vector, vectors (1 to `BYTE_VECTORS`),
        first tap, taps, first weight.
    weights : int8[:], per group [tap][4][vector][16][4]; 64-byte aligned.
    bias : int32[classes, vectors * 16]. Zero points are in it: a pixel of class k starts from bias[k] less the input's
        zero point times the weights that meet the map (a border of zeros adds nothing), plus `INPUT_OFFSET` times all
        weights. rows, columns : int32[Hout], int32[Wout]; the class of a pixel is their sum.
    scale : float32[vectors * 16]. ending : limits and zero point of the result. table : uint8[256], applied to the
        result; uint8[0] for none.
    pixels : int32[n, 2], (y, x) in the target; whole blocks of `test.block` squared pixels in a row.
    scratch : float32[scratch_elements(slots)]. written : uint8[H, W], set to 1 where the target changed.

    Returns the number of pixels written. Products and sums are exact in int32.
    """
    slots = (scale.size + VECTOR_BYTES - 1) // VECTOR_BYTES
    bases, outs, starts = address_table(), address_table(), address_table()
    direct, total = test.mode == STORE and table.size == 0, 0  # straight into the target
    plane = target.plane * 4 if direct else VECTOR_BYTES
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        address_chunk(arena, source, target, pixels, start, CHUNK, count, stride_y, stride_x, bases, outs)
        _address_biases(bias, rows, columns, pixels, start, count, starts)
        if not direct:
            clear_slots(scratch, slots, count)
            _address_candidates(scratch, slots, outs)
        for g in range(spans.shape[0]):
            first, vectors, tap, tap_count = spans[g, 0], spans[g, 1], spans[g, 2], spans[g, 3]
            w, step = address_of(weights) + spans[g, 4], _PIXELS[vectors - 1]
            for slot in range(0, count, step):
                _dense(
                    vectors, bases + slot * 8, address_of(taps) + tap * 8, tap_count, w, starts + slot * 8,
                    address_of(scale) + first * VECTOR_BYTES, ending, outs + slot * 8, first, plane,
                )  # fmt: skip
        if direct:
            total += commit_chunk(arena, scratch, slots, target, pixels, start, count, test, written)
        else:
            total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total


@jit
def convolve_bytes_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    rows: np.ndarray, columns: np.ndarray, scale: np.ndarray, ending: Exit, table: np.ndarray, target: Map,
    pixels: np.ndarray, stride_y: int, stride_x: int, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Depthwise convolution of bytes at the listed output pixels; arguments as in `convolve_bytes`, but for

    planes : int64[vectors], byte offset of each 16 input channels from the source's origin. taps : int64[k], byte
    offsets. weights : int16[vectors, k, 16]. bias : as there, without `INPUT_OFFSET`.
    """
    vectors, count_taps = planes.size, taps.size
    slots = (vectors * 16 + VECTOR_BYTES - 1) // VECTOR_BYTES
    bases, outs, shifted, starts = address_table(), address_table(), address_table(), address_table()
    direct, total = test.mode == STORE and table.size == 0, 0  # straight into the target
    plane = target.plane * 4 if direct else VECTOR_BYTES
    low, high, zero = np.float32(ending.low), np.float32(ending.high), ending.zero
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        address_chunk(arena, source, target, pixels, start, CHUNK, count, stride_y, stride_x, bases, outs)
        _address_biases(bias, rows, columns, pixels, start, count, starts)
        if not direct:
            clear_slots(scratch, slots, count)
            _address_candidates(scratch, slots, outs)
        for v in range(vectors):
            for i in range(CHUNK):
                table_set(shifted, i, table_get(bases, i) + planes[v])
            w = address_of(weights) + v * count_taps * 32
            lane_bytes = v * VECTOR_BYTES
            for slot in range(0, count, PIXELS):
                depthwise_bytes(
                    shifted + slot * 8, address_of(taps), count_taps, w, starts + slot * 8, lane_bytes,
                    address_of(scale) + lane_bytes, low, high, zero, outs + slot * 8, v, plane,
                )  # fmt: skip
        if direct:
            total += commit_chunk(arena, scratch, slots, target, pixels, start, count, test, written)
        else:
            total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total
