"""Where feature maps lie, and what happens to a pixel's new value: the plain tuples that kernels take.

All feature maps of a stream live in one flat float32 array, its *arena*; positions are counted in elements
from the arena's start. A blocked map keeps 16 channels side by side, [blocks][rows][columns][16], inside a
border of zeros wide enough for every reader, so that no kernel tests for the edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.constants import IDENTITY, LANES, STORE, TEST_BITS, VECTOR_BYTES
from kernels.jit import jit
from kernels.micro import move_block
from kernels.simd import (
    address_of,
    is_run,
    lane_any_bits,
    lane_copy,
    lane_fill,
    lane_sum,
    make_table,
    mark_one,
    mark_run,
    read_int,
    table_get,
    table_set,
    table_set_four,
)
from kernels.target import PIXELS

# Pixels whose candidates wait in scratch for the comparison: whole blocks of 1, 4 or 16, and whole calls.
CHUNK = 48
# Pixels taken together where all are stored: long runs through one block of a few maps, which a CPU fetches ahead,
# where short ones through every block would be too many at a time.
LONG_CHUNK = 384
WIDEST = 16  # pixels of the largest call


Finish = tuple[int, np.float32, np.float32, int, int, int]


class Map(NamedTuple):
    """A feature map in the arena, in elements.

    Lane l of block b at (y, x) is origin + b*plane + y*row + x*pixel + l.
    """

    origin: int
    plane: int
    row: int
    pixel: int


class Act(NamedTuple):
    """Activation: kind (see `kernels.constants`) with its two parameters; and what is added to a result.

    before, after : bytes from where a value is stored to one that is added to it before it is activated, or after; 0
        for none. The map that lies there has the strides of the target.
    """

    kind: int
    alpha: float
    beta: float
    before: int = 0
    after: int = 0


class Test(NamedTuple):
    """When a new value replaces the stored one.

    mode : STORE always; TEST_BITS where any bit differs; TEST_RMS where the sum over channels of squared
        differences is above `limit`. The decision is taken for `block` x `block` pixels together, if any of
        them wants it. STORE with a limit below 0 (`UNMARKED`) marks nothing: who asks for it knows.
    """

    mode: int
    limit: float
    block: int


class Memory(NamedTuple):
    """Byte addresses of what a kernel works on: see `memory`.

    Kernels take all addresses once, before their loops: every array that is passed on costs a locked count of
    references, which waits until all earlier stores have reached the cache.
    """

    base: int
    listed: int
    scratch: int
    blocks: int
    marks: int
    marks_row: int
    marks_pixel: int


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
    return CHUNK * LANES * (blocks + 1)


Test.__test__ = False  # type: ignore[attr-defined]  # not a test case


address_table = make_table(LONG_CHUNK)


@jit
def chunk_pixels(test: Test) -> int:
    """Pixels taken together."""
    return LONG_CHUNK if test.mode == STORE else CHUNK


@jit
def memory(arena: np.ndarray, pixels: np.ndarray, scratch: np.ndarray, blocks: int, written: np.ndarray) -> Memory:
    """Addresses of the arena, the listed pixels, the scratch for so many output blocks, and the marks."""
    return Memory(
        address_of(arena), address_of(pixels), address_of(scratch), blocks, address_of(written), written.strides[0],
        written.strides[1],
    )  # fmt: skip


@jit
def fill_addresses(m: Memory, at: Map, stride_y: int, stride_x: int, start: int, count: int, table: int) -> None:
    """table[i] = byte address of pixel (y * stride_y, x * stride_x) of a map, for `count` listed pixels.

    table : address of an `address_table`. Spare slots, as many as the last call may take, repeat the last pixel.
    """
    base, listed = m.base + at.origin * 4, m.listed + start * 8
    row, pixel = at.row * stride_y * 4, at.pixel * stride_x * 4
    i = 0
    while i + 4 <= count:
        table_set_four(table, i, base, listed + i * 8, row, pixel)
        i += 4
    while i < count:
        entry = listed + i * 8
        table_set(table, i, base + read_int(entry) * row + read_int(entry + 4) * pixel)
        i += 1
    if count > 0:
        last = table_get(table, count - 1)
        while i < min(count + WIDEST, LONG_CHUNK):
            table_set(table, i, last)
            i += 1


@jit
def are_runs(m: Memory, first: int, count: int) -> bool:
    """Whether `count` listed pixels from `first` on are runs of four neighbours in a row."""
    regular = True
    for p in range(first, first + count, 4):
        regular &= is_run(m.listed + p * 8)
    return regular


@jit
def mark_pixels(m: Memory, first: int, end: int) -> int:
    """Mark pixels first to end - 1 as written; returns how many were not marked before."""
    fresh, p = 0, first
    while p < end:
        entry = m.listed + p * 8
        mark = m.marks + read_int(entry) * m.marks_row + read_int(entry + 4) * m.marks_pixel
        if m.marks_pixel == 1 and p + 4 <= end and is_run(entry):
            fresh += mark_run(mark)
            p += 4
        else:
            fresh += mark_one(mark)
            p += 1
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
def reset_metrics(m: Memory, test: Test) -> None:
    """Set every pixel's metric to zero, if it will be used."""
    if test.mode != STORE:
        metrics = m.scratch + CHUNK * m.blocks * VECTOR_BYTES
        for p in range(CHUNK):
            lane_fill(metrics + p * VECTOR_BYTES, np.float32(0))


@jit
def exits(
    m: Memory, target: Map, test: Test, outs: int, slot: int, block: int
) -> tuple[int, int, int, int, int, int, int]:
    """Where a micro-kernel leaves the results of the pixels from `slot` on, for `block` and those after it."""
    row = m.blocks * VECTOR_BYTES
    return (
        test.mode, outs + slot * 8, block * target.plane * 4, target.plane * 4,
        m.scratch + slot * row + block * VECTOR_BYTES, row, m.scratch + CHUNK * row + slot * VECTOR_BYTES,
    )  # fmt: skip


@jit
def activation(act: Act, slopes: int, block: int) -> Finish:
    """The activation as a micro-kernel takes it, for `block` and those after it. slopes : address of block 0's."""
    slope = slopes + block * VECTOR_BYTES
    return act.kind, np.float32(act.alpha), np.float32(act.beta), slope, act.before, act.after


@jit
def unchanged() -> Act:
    """No activation, and nothing added."""
    return Act(IDENTITY, 0.0, 0.0, 0, 0)


@jit
def commit_pixels(m: Memory, target: Map, start: int, count: int, test: Test, outs: int) -> int:
    """Write the candidates that pass their test and mark them; returns the number of pixels newly marked.

    In scratch: candidates [pixel][block][16], then metrics [pixel][16] past CHUNK candidates.
    outs : address of the table of output addresses.
    """
    if test.mode == STORE:
        return count if test.limit < 0 else mark_pixels(m, start, start + count)
    row, plane = m.blocks * VECTOR_BYTES, target.plane * 4
    metrics = m.scratch + CHUNK * row
    group, first, total = test.block * test.block, 0, 0
    while first < count:
        end = min(first + group, count)
        if _passes(metrics, first, end, test):
            total += mark_pixels(m, start + first, start + end)
            for p in range(first, end):
                out, candidate = table_get(outs, p), m.scratch + p * row
                for b in range(m.blocks):
                    lane_copy(out + b * plane, candidate + b * VECTOR_BYTES)
        first = end
    return total


@jit
def raw_of(m: Memory, slot: int) -> int:
    """Address in scratch of a pixel's raw values; those of earlier calls of a long chunk lay there too."""
    return m.scratch + slot % CHUNK * m.blocks * VECTOR_BYTES


@jit
def finish_raw(
    m: Memory, act: Act, slopes: int, target: Map, test: Test, outs: int, first: int, end: int, count: int
) -> None:
    """Activate the raw values (see `raw_of`) of slots `first` to `end` - 1, whole calls, and compare or store them.

    Slots from `count` on, which hold none, take those of the last one below.
    """
    raws = address_table()
    for i in range(first, end):
        table_set(raws, i, raw_of(m, min(i, count - 1)))
    for b in range(m.blocks):
        finish = activation(act, slopes, b)
        for slot in range(first, end, PIXELS):
            move_block(raws + slot * 8, b * VECTOR_BYTES, finish, exits(m, target, test, outs, slot, b))


@jit
def finish_pixels(m: Memory, act: Act, slopes: int, target: Map, start: int, count: int, test: Test) -> int:
    """Activate the raw values in scratch, compare or store, commit; returns the number of pixels written."""
    outs = address_table()
    fill_addresses(m, target, 1, 1, start, count, outs)
    reset_metrics(m, test)
    end = (count + PIXELS - 1) // PIXELS * PIXELS
    finish_raw(m, act, slopes, target, test, outs, 0, end, count)
    return commit_pixels(m, target, start, count, test, outs)


# The same for kernels that hold arrays rather than their addresses.


@jit
def _mark(pixels: np.ndarray, first: int, end: int, written: np.ndarray) -> int:
    """Set `written` at pixels first to end - 1; returns how many were not set before."""
    marks = address_of(written), written.strides[0], written.strides[1]
    return mark_pixels(Memory(0, address_of(pixels), 0, 0, marks[0], marks[1], marks[2]), first, end)


@jit
def clear_metrics(scratch: np.ndarray, blocks: int) -> None:
    """Set every pixel's metric to zero."""
    metrics = address_of(scratch) + CHUNK * blocks * VECTOR_BYTES
    for p in range(CHUNK):
        lane_fill(metrics + p * VECTOR_BYTES, np.float32(0))


@jit
def commit_chunk(
    arena: np.ndarray, scratch: np.ndarray, blocks: int, target: Map, pixels: np.ndarray, start: int,
    count: int, test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """`commit_pixels` of at most `CHUNK` pixels."""
    m, outs = memory(arena, pixels, scratch, blocks, written), address_table()
    fill_addresses(m, target, 1, 1, start, count, outs)
    return commit_pixels(m, target, start, count, test, outs)


@jit
def finish_chunk(
    arena: np.ndarray, scratch: np.ndarray, blocks: int, act: Act, slope: np.ndarray, target: Map,
    pixels: np.ndarray, start: int, count: int, test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """`finish_pixels` of at most `CHUNK` pixels."""
    m = memory(arena, pixels, scratch, blocks, written)
    return finish_pixels(m, act, address_of(slope), target, start, count, test)
