"""Where feature maps lie, and what happens to a pixel's new value: the plain tuples that kernels take.

All feature maps of a stream live in one flat float32 array, its *arena*; positions are counted in elements from the
arena's start. A blocked map keeps 16 channels side by side, [blocks][rows][columns][16], inside a border of zeros wide
enough for every reader, so that no kernel tests for the edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from kernels.simd import STORE, TEST_RMS, VECTOR_BYTES, lane_any_bits, lane_copy, lane_fill, lane_sum

CHUNK = 48  # pixels whose candidates wait in scratch for the comparison: whole blocks of 1, 4, 16 and whole calls
SCRATCH_LANES = CHUNK * 16  # metric vectors at the end of the scratch


class Map(NamedTuple):
    """A feature map in the arena, in elements: lane l of block b at (y, x) is origin + b*plane + y*row + x*pixel + l."""

    origin: int
    plane: int
    row: int
    pixel: int


class Act(NamedTuple):
    """Activation: kind (`kernels.simd` constants) with its two parameters."""

    kind: int
    alpha: float
    beta: float


class Test(NamedTuple):
    """When a new value replaces the stored one.

    mode : STORE always; TEST_BITS where any bit differs; TEST_RMS where the sum over channels of squared differences
        is above `limit`. The decision is taken for `block` x `block` pixels together, if any of them wants it.
    """

    __test__ = False  # not a test case

    mode: int
    limit: float
    block: int


def scratch_elements(blocks: int) -> int:
    """float32 elements of scratch that a kernel with `blocks` output blocks needs."""
    return CHUNK * 16 * blocks + SCRATCH_LANES


@numba.njit(nogil=True, cache=True)
def commit_chunk(
    arena: np.ndarray, scratch: np.ndarray, blocks: int, target: Map, pixels: np.ndarray, start: int, count: int,
    test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """Write the candidates that pass their test, mark them in `written`; returns how many pixels were written.

    scratch : float32, candidates [pixel][block][16], then metrics [pixel][16] at the end of the full-size area.
    """
    base, candidates = arena.ctypes.data, scratch.ctypes.data
    metrics = candidates + CHUNK * blocks * VECTOR_BYTES
    group = test.block * test.block
    total = 0
    for first in range(0, count, group):
        last = min(first + group, count)
        keep = test.mode == STORE
        for p in range(first, last):
            if keep:
                break
            at = metrics + p * VECTOR_BYTES
            if test.mode == TEST_RMS:
                keep = not (lane_sum(at) <= np.float32(test.limit))
            else:
                keep = lane_any_bits(at)
        if not keep:
            continue
        for p in range(first, last):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            if written[y, x] == 0:
                written[y, x] = 1
                total += 1
            if test.mode == STORE:
                continue
            out = base + (target.origin + y * target.row + x * target.pixel) * 4
            new = candidates + p * blocks * VECTOR_BYTES
            for b in range(blocks):
                lane_copy(out + b * target.plane * 4, new + b * VECTOR_BYTES)
    return total


@numba.njit(nogil=True, cache=True)
def clear_metrics(scratch: np.ndarray, blocks: int) -> None:
    """Set every pixel's metric to zero."""
    metrics = scratch.ctypes.data + CHUNK * blocks * VECTOR_BYTES
    for p in range(CHUNK):
        lane_fill(metrics + p * VECTOR_BYTES, np.float32(0))
