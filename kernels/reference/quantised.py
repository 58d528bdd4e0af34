"""Twins of `kernels.quantised`."""

from __future__ import annotations

import numpy as np

from kernels.byte_maps import Exit
from kernels.constants import LANES, STORE, VECTOR_BYTES
from kernels.emit_int8 import INPUT_OFFSET, QUADS
from kernels.layout import Map, Test
from kernels.reference.byte_maps import byte_positions, finish_slots, to_bytes


def _finish(
    arena: np.ndarray, values: np.ndarray, table: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    written: np.ndarray,
) -> int:  # fmt: skip
    """As `finish_slots`; but what is stored as it is leaves the quarters of a slot that hold no output alone."""
    if test.mode != STORE or table.size:
        return finish_slots(arena, values, table, target, pixels, test, written)
    lanes, before = np.arange(values.shape[1]), np.count_nonzero(written)
    offsets = lanes // VECTOR_BYTES * target.plane * 4 + lanes % VECTOR_BYTES
    arena.view(np.uint8)[byte_positions(target, pixels, offsets, 1)] = values
    if test.limit < 0:
        return len(pixels)
    written[pixels[:, 0], pixels[:, 1]] = 1
    return int(np.count_nonzero(written) - before)


def convolve_bytes(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    rows: np.ndarray, columns: np.ndarray, scale: np.ndarray, ending: Exit, table: np.ndarray, target: Map,
    pixels: np.ndarray, stride_y: int, stride_x: int, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bias plus the sum over taps and channels in integers, one group of output vectors after another."""
    corners = pixels.astype(np.int64) * (stride_y, stride_x)
    sums = bias[rows[pixels[:, 0]] + columns[pixels[:, 1]]].astype(np.int64)
    for vector, vectors, first_tap, tap_count, first_weight in spans:
        outputs = slice(vector * LANES, (vector + vectors) * LANES)
        size = QUADS * vectors * LANES * 4
        for k in range(tap_count):
            part = weights[first_weight + k * size :][:size].reshape(QUADS, vectors * LANES, 4)
            kernel = part.transpose(0, 2, 1).reshape(QUADS * 4, -1).astype(np.int64)
            reads = arena.view(np.uint8)[byte_positions(source, corners, taps[first_tap + k, None], QUADS * 4)]
            sums[:, outputs] += (reads.astype(np.int64) - INPUT_OFFSET) @ kernel
    values = to_bytes(sums.astype(np.float32) * scale, ending)
    return _finish(arena, values, table, target, pixels, test, written)


def convolve_bytes_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    rows: np.ndarray, columns: np.ndarray, scale: np.ndarray, ending: Exit, table: np.ndarray, target: Map,
    pixels: np.ndarray, stride_y: int, stride_x: int, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bias plus the sum over taps in integers, each channel by itself."""
    corners = pixels.astype(np.int64) * (stride_y, stride_x)
    kernel = weights.reshape(planes.size, taps.size, LANES).astype(np.int64)
    sums = bias[rows[pixels[:, 0]] + columns[pixels[:, 1]]].astype(np.int64)
    for k in range(taps.size):
        reads = arena.view(np.uint8)[byte_positions(source, corners, planes + taps[k], LANES)]
        sums += reads.astype(np.int64) * kernel[:, k].reshape(-1)
    values = to_bytes(sums.astype(np.float32) * scale, ending)
    return _finish(arena, values, table, target, pixels, test, written)
