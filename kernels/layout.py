"""Where feature maps lie, and what happens to a pixel's new value: the plain tuples that kernels take.

All feature maps of a stream live in one flat float32 array, its *arena*; positions are counted in elements
from the arena's start. A blocked map keeps 16 channels side by side, [blocks][rows][columns][16], inside a
border of zeros wide enough for every reader, so that no kernel tests for the edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.constants import STORE, TEST_BITS, VECTOR_BYTES
from kernels.jit import jit
from kernels.simd import finish_vector, lane_any_bits, lane_copy, lane_fill, lane_sum

# Pixels whose candidates wait in scratch for the comparison: whole blocks of 1, 4 or 16, and whole calls.
CHUNK = 48
SCRATCH_LANES = CHUNK * 16  # metric vectors at the end of the scratch


class Map(NamedTuple):
    """A feature map in the arena, in elements.

    Lane l of block b at (y, x) is origin + b*plane + y*row + x*pixel + l.
    """

    origin: int
    plane: int
    row: int
    pixel: int


class Act(NamedTuple):
    """Activation: kind (see `kernels.constants`) with its two parameters."""

    kind: int
    alpha: float
    beta: float


class Test(NamedTuple):
    """When a new value replaces the stored one.

    mode : STORE always; TEST_BITS where any bit differs; TEST_RMS where the sum over channels of squared
        differences is above `limit`. The decision is taken for `block` x `block` pixels together, if any of
        them wants it.
    """

    mode: int
    limit: float
    block: int


class Window(NamedTuple):
    """What a pooling window covers: sizes, strides, dilations and padding in pixels."""

    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    dilation_y: int
    dilation_x: int
    top: int
    left: int
    bottom: int
    right: int


def scratch_elements(blocks: int) -> int:
    """float32 elements of scratch that a kernel with `blocks` output blocks needs."""
    return CHUNK * 16 * blocks + SCRATCH_LANES


Test.__test__ = False  # type: ignore[attr-defined]  # not a test case


@jit
def _mark(pixels: np.ndarray, first: int, end: int, written: np.ndarray) -> int:
    """Set `written` at pixels first to end - 1; returns how many were not set before."""
    fresh = 0
    for p in range(np.uint64(first), np.uint64(end)):  # unsigned indices skip the check for negative ones
        y, x = np.uint32(pixels[p, 0]), np.uint32(pixels[p, 1])
        fresh += written[y, x] == 0
        written[y, x] = 1
    return fresh


@jit
def _passes(metrics: int, first: int, end: int, test: Test) -> bool:
    """Whether any pixel's metric, from first to end - 1, asks for a write."""
    limit = np.float32(test.limit)
    for p in range(first, end):
        at = metrics + p * VECTOR_BYTES
        if test.mode == TEST_BITS:
            if lane_any_bits(at):
                return True
        elif not (lane_sum(at) <= limit):  # a NaN asks for one too
            return True
    return False


@jit
def commit_chunk(
    arena: np.ndarray, scratch: np.ndarray, blocks: int, target: Map, pixels: np.ndarray, start: int,
    count: int, test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """Write the candidates that pass their test and mark them; returns the number of pixels newly marked.

    scratch : float32, candidates [pixel][block][16], then metrics [pixel][16] past CHUNK candidates.
    """
    if test.mode == STORE:
        return _mark(pixels, start, start + count, written)
    base, candidates = arena.ctypes.data, scratch.ctypes.data
    row, plane = blocks * VECTOR_BYTES, target.plane * 4
    metrics = candidates + CHUNK * row
    group, first, total = test.block * test.block, 0, 0
    while first < count:
        end = min(first + group, count)
        if _passes(metrics, first, end, test):
            total += _mark(pixels, start + first, start + end, written)
            for p in range(first, end):
                y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
                out = base + (target.origin + y * target.row + x * target.pixel) * 4
                for b in range(blocks):
                    lane_copy(out + b * plane, candidates + p * row + b * VECTOR_BYTES)
        first = end
    return total


@jit
def clear_metrics(scratch: np.ndarray, blocks: int) -> None:
    """Set every pixel's metric to zero."""
    metrics = scratch.ctypes.data + CHUNK * blocks * VECTOR_BYTES
    for p in range(CHUNK):
        lane_fill(metrics + p * VECTOR_BYTES, np.float32(0))


@jit
def finish_chunk(
    arena: np.ndarray, scratch: np.ndarray, blocks: int, act: Act, slope: np.ndarray, target: Map,
    pixels: np.ndarray, start: int, count: int, test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """Activate the raw values in scratch, compare or store, commit; returns the number of pixels written."""
    base, row = arena.ctypes.data, blocks * VECTOR_BYTES
    raw, slopes = scratch.ctypes.data, slope.ctypes.data
    metrics = raw + CHUNK * row
    alpha, beta = np.float32(act.alpha), np.float32(act.beta)
    if test.mode != STORE:
        clear_metrics(scratch, blocks)
    for p in range(count):
        y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
        out = base + (target.origin + y * target.row + x * target.pixel) * 4
        for b in range(blocks):
            finish_vector(
                raw + p * row + b * VECTOR_BYTES, act.kind, alpha, beta, slopes + b * VECTOR_BYTES, test.mode,
                out + b * target.plane * 4, metrics + p * VECTOR_BYTES,
            )  # fmt: skip
    return commit_chunk(arena, scratch, blocks, target, pixels, start, count, test, written)
