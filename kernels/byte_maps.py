"""What is done to byte maps besides convolution: to and from float32, look-ups, sums and products, pooling, packing.

The slots of a byte map hold 64 channels of a pixel (see `kernels.quantised`); dead channels are kept the same for ever,
so that a slot compares as a whole. Knows arrays and ints only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels.constants import MUL, STORE, TEST_BITS, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import CHUNK, Act, Map, Test, Window, clear_metrics, commit_chunk, finish_chunk
from kernels.pool import _span
from kernels.simd import address_of, lane_copy
from kernels.simd_int8 import (
    add_lanes,
    dequantise_lanes,
    multiply_lanes,
    quantise_lanes,
    quantise_pixel_1,
    quantise_pixel_2,
    quantise_pixel_3,
    quantise_pixel_4,
    quantise_pixels_1,
    quantise_pixels_2,
    quantise_pixels_3,
    quantise_pixels_4,
    slot_bit_difference,
    slot_fill,
    slot_lookup,
    slot_max,
    slot_square_difference,
)
from kernels.spread import SAMPLES

__all__ = [
    "combine_bytes",
    "dequantise",
    "look_up",
    "pack_bytes",
    "pool_max_bytes",
    "quantise",
    "quantise_image",
    "spread_bytes",
    "unpack_bytes",
]


class Exit(NamedTuple):
    """How a scaled float32 becomes a byte: limited to [low, high], rounded half to even, plus `zero`.

    low, high : whole numbers, less the zero point.
    """

    low: float
    high: float
    zero: int


class Terms(NamedTuple):
    """How two bytes are combined: x and y are they, less `offset_first` and `offset_second`.

    Sum: (x * factor + fixed) + y * other. Product: (x * y) * factor + fixed.
    """

    offset_first: float
    offset_second: float
    factor: float
    other: float
    fixed: float


@jit
def clear_slots(scratch: np.ndarray, slots: int, count: int) -> None:
    """Zero the last candidate slot of each pixel: a kernel may fill only part of it."""
    for p in range(count):
        slot_fill(address_of(scratch) + ((p + 1) * slots - 1) * VECTOR_BYTES, 0)


@jit
def finish_slots(
    arena: np.ndarray, scratch: np.ndarray, slots: int, table: np.ndarray, target: Map, pixels: np.ndarray, start: int,
    count: int, test: Test, written: np.ndarray,
) -> int:  # fmt: skip
    """Look up the candidate slots in scratch, compare or store, commit; returns the number of pixels written."""
    base, row = address_of(arena), slots * VECTOR_BYTES
    candidates, entries, plane = address_of(scratch), address_of(table), target.plane * 4
    metrics = candidates + CHUNK * row
    if test.mode != STORE:
        clear_metrics(scratch, slots)
    for p in range(count):
        y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
        out = base + (target.origin + y * target.row + x * target.pixel) * 4
        metric = metrics + p * VECTOR_BYTES
        for s in range(slots):
            candidate = candidates + p * row + s * VECTOR_BYTES
            if test.mode == STORE and table.size > 0:
                slot_lookup(candidate, entries, out + s * plane)
                continue
            if table.size > 0:
                slot_lookup(candidate, entries, candidate)
            if test.mode == STORE:
                lane_copy(out + s * plane, candidate)
            elif test.mode == TEST_BITS:
                slot_bit_difference(candidate, out + s * plane, metric)
            else:
                slot_square_difference(candidate, out + s * plane, metric)
    return commit_chunk(arena, scratch, slots, target, pixels, start, count, test, written)


@jit
def quantise(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: float, ending: Exit, table: np.ndarray, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bytes of a float map at the listed pixels: round(x / scale) limited, plus the zero point.

    arena : float32[:]. planes : int64[vectors], element offset of each 16 channels from the source's origin; they
        fill the target's slots in order. table : uint8[256], applied to the result; uint8[0] for none.
    pixels : int32[n, 2], (y, x) in the target. scratch : float32[scratch_elements(slots)].
    written : uint8[H, W], set to 1 where the target changed. Returns the number of pixels written.
    """
    slots = (planes.size + 3) // 4
    base, raw, total = address_of(arena), address_of(scratch), 0
    step, low, high = np.float32(scale), np.float32(ending.low), np.float32(ending.high)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        clear_slots(scratch, slots, count)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            pixel = base + (source.origin + y * source.row + x * source.pixel) * 4
            out = raw + p * slots * VECTOR_BYTES
            for v in range(planes.size):
                quantise_lanes(pixel + planes[v] * 4, step, low, high, ending.zero, out + v * 16)
        total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total


@jit
def _quantise_pixels(channels: int, source: int, scale: float, ending: Exit, target: int) -> None:
    """Four neighbouring pixels of an interleaved map."""
    step, low, high, zero = np.float32(scale), np.float32(ending.low), np.float32(ending.high), ending.zero
    if channels == 3:
        quantise_pixels_3(source, step, low, high, zero, target)
    elif channels == 1:
        quantise_pixels_1(source, step, low, high, zero, target)
    elif channels == 2:
        quantise_pixels_2(source, step, low, high, zero, target)
    else:
        quantise_pixels_4(source, step, low, high, zero, target)


@jit
def _quantise_pixel(channels: int, source: int, scale: float, ending: Exit, target: int) -> None:
    """One pixel of an interleaved map."""
    step, low, high, zero = np.float32(scale), np.float32(ending.low), np.float32(ending.high), ending.zero
    if channels == 3:
        quantise_pixel_3(source, step, low, high, zero, target)
    elif channels == 1:
        quantise_pixel_1(source, step, low, high, zero, target)
    elif channels == 2:
        quantise_pixel_2(source, step, low, high, zero, target)
    else:
        quantise_pixel_4(source, step, low, high, zero, target)


@jit
def quantise_image(
    arena: np.ndarray, source: Map, channels: int, scale: float, ending: Exit, target: Map, pixels: np.ndarray,
    test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """The same for a map whose 1 to 4 channels lie side by side, into slots of 4 bytes; bytes past them are zero.

    Pixels of the target lie side by side. Blocks of `test.block` squared pixels are written together, where any byte
    differs: only STORE and TEST_BITS.
    """
    fresh, stored = scratch.view(np.uint32), arena.view(np.uint32)
    everything, store = Test(STORE, 0.0, 1), test.mode == STORE
    group, total, first = test.block * test.block, 0, 0
    while first < pixels.shape[0]:
        end, p, differs = min(first + group, pixels.shape[0]), first, store
        while p < end:
            y, x = int(pixels[p, 0]), int(pixels[p, 1])
            read = address_of(arena) + (source.origin + y * source.row + x * source.pixel) * 4
            out = address_of(scratch) + (p - first) * 4
            if store:
                out = address_of(arena) + (target.origin + y * target.row + x) * 4
            if p + 3 < end and source.pixel == channels and pixels[p + 3, 0] == y and pixels[p + 3, 1] == x + 3:
                _quantise_pixels(channels, read, scale, ending, out)
                p += 4
            else:
                _quantise_pixel(channels, read, scale, ending, out)
                p += 1
        if not store:
            for i in range(first, end):
                place = target.origin + int(pixels[i, 0]) * target.row + int(pixels[i, 1])
                differs |= fresh[i - first] != stored[place]
            for i in range(first, end if differs else first):
                stored[target.origin + int(pixels[i, 0]) * target.row + int(pixels[i, 1])] = fresh[i - first]
        if differs:
            total += commit_chunk(arena, scratch, 1, target, pixels, first, end - first, everything, written)
        first = end
    return total


@jit
def dequantise(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: np.ndarray, zero: int, slope: np.ndarray, target: Map,
    pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """(byte - zero) * scale of a byte map at the listed pixels; activate, compare, write as `convolve` does.

    planes : int64[blocks], byte offset of each 16 channels from the source's origin. scale : float32[1].
    slope : float32[blocks * 16], read for PReLU alone. scratch : float32[scratch_elements(blocks)].
    """
    blocks, total = planes.size, 0
    base, raw = address_of(arena), address_of(scratch)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            pixel = base + (source.origin + y * source.row + x * source.pixel) * 4
            for b in range(blocks):
                dequantise_lanes(pixel + planes[b], scale[0], zero, raw + (p * blocks + b) * VECTOR_BYTES)
        total += finish_chunk(arena, scratch, blocks, act, slope, target, pixels, start, count, test, written)
    return total


@jit
def look_up(
    arena: np.ndarray, source: Map, planes: np.ndarray, table: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """table[byte] of a byte map at the listed pixels: any function of one value. table : uint8[256].

    planes : int64[slots], element offset of each slot from the source's origin; the rest as in `quantise`.
    """
    slots, total = planes.size, 0
    base, raw = address_of(arena), address_of(scratch)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            pixel = base + (source.origin + y * source.row + x * source.pixel) * 4
            for s in range(slots):
                lane_copy(raw + (p * slots + s) * VECTOR_BYTES, pixel + planes[s] * 4)
        total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total


@jit
def combine_bytes(
    op: int, arena: np.ndarray, first: Map, first_planes: np.ndarray, second: Map, second_planes: np.ndarray,
    vectors: int, terms: Terms, ending: Exit, table: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Sum or product (op ADD or MUL) of two byte maps at the listed pixels, requantised; the rest as in `look_up`.

    first, second : maps; one with row and pixel strides of 0 is broadcast over all pixels. first_planes,
    second_planes : int64[slots], element offset of each slot. vectors : quarters of slots from the first on that hold
    channels; the others become zeros, looked up. table : uint8[0] for none.
    """
    slots, total = first_planes.size, 0
    base, raw = address_of(arena), address_of(scratch)
    ox, oy = np.float32(terms.offset_first), np.float32(terms.offset_second)
    factor, other, fixed = np.float32(terms.factor), np.float32(terms.other), np.float32(terms.fixed)
    low, high, zero = np.float32(ending.low), np.float32(ending.high), ending.zero
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        clear_slots(scratch, slots, count)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            a_pixel = base + (first.origin + y * first.row + x * first.pixel) * 4
            b_pixel = base + (second.origin + y * second.row + x * second.pixel) * 4
            for s in range(slots):
                out = raw + (p * slots + s) * VECTOR_BYTES
                a, b = a_pixel + first_planes[s] * 4, b_pixel + second_planes[s] * 4
                for i in range(0, min(VECTOR_BYTES, (vectors - 4 * s) * 16), 16):
                    if op == MUL:
                        multiply_lanes(a + i, b + i, ox, oy, factor, other, fixed, low, high, zero, out + i)
                    else:
                        add_lanes(a + i, b + i, ox, oy, factor, other, fixed, low, high, zero, out + i)
        total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total


@jit
def pool_max_bytes(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Largest byte of each window; arguments as in `kernels.pool.pool_max` and `look_up`.

    A window wholly outside the map gives 0.
    """
    slots, total = planes.size, 0
    base, raw = address_of(arena), address_of(scratch)
    step, table = window.dilation_x * source.pixel * 4, np.empty(0, np.uint8)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            top = pixels[start + p, 0] * window.stride_y - window.top
            left = pixels[start + p, 1] * window.stride_x - window.left
            y0, y1 = _span(top, window.kernel_y, window.dilation_y, 0, height)
            x0, x1 = _span(left, window.kernel_x, window.dilation_x, 0, width)
            for s in range(slots):
                result = raw + (p * slots + s) * VECTOR_BYTES
                slot_fill(result, 0)
                corner = source.origin + planes[s] + (left + x0 * window.dilation_x) * source.pixel
                for i in range(y0, y1):
                    at = base + (corner + (top + i * window.dilation_y) * source.row) * 4
                    slot_max(result, at, step, x1 - x0)
        total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total


@jit
def pack_bytes(
    arena: np.ndarray, source: Map, channels: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Gather channels from anywhere in a byte map into new slots; compare, write as `look_up` does.

    channels : int64[slots * 64], byte offset of each channel from the source's origin; -1 gives zeros. A source with
    origin 0 takes absolute offsets, of several maps that have the same strides.
    """
    slots, total, table = channels.size // VECTOR_BYTES, 0, np.empty(0, np.uint8)
    data, fresh = arena.view(np.uint8), scratch.view(np.uint8)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        for p in range(count):
            y, x = np.int64(pixels[start + p, 0]), np.int64(pixels[start + p, 1])
            pixel = (source.origin + y * source.row + x * source.pixel) * 4
            for lane in range(channels.size):
                offset = channels[lane]
                fresh[p * channels.size + lane] = np.uint8(0) if offset < 0 else data[pixel + offset]
        total += finish_slots(arena, scratch, slots, table, target, pixels, start, count, test, written)
    return total


@jit
def spread_bytes(arena: np.ndarray, source: Map, height: int, width: int, lanes: np.ndarray) -> float:
    """Standard deviation of a byte map's values, in quanta; otherwise as `kernels.spread.spread`.

    arena : float32[:]. lanes : int64[C], slot * 64 + byte of each channel.
    """
    data, step = arena.view(np.uint8), 2
    while ((height + step - 1) // step) * ((width + step - 1) // step) > SAMPLES:
        step += 1
    total, square, count = np.int64(0), np.int64(0), 0
    for i in range(lanes.size):
        slot, lane = lanes[i] // VECTOR_BYTES, lanes[i] % VECTOR_BYTES
        for y in range(0, height, step):
            for x in range(0, width, step):
                element = source.origin + slot * source.plane + y * source.row + x * source.pixel
                value = np.int64(data[element * 4 + lane])
                total += value
                square += value * value
                count += 1
    mean = total / max(count, 1)
    return math.sqrt(max(square / max(count, 1) - mean * mean, 0.0))


@jit
def unpack_bytes(
    arena: np.ndarray, channels: np.ndarray, row: int, pixel: int, flip: int, first: int, end: int, out: np.ndarray
) -> None:
    """Rows `first` to `end` - 1 of out uint8[C, H, W] = the bytes of channels at int64[C] byte offsets, exclusive-or
    `flip` (128 for int8).

    row, pixel : elements from a row (pixel) to the next.
    """
    data = arena.view(np.uint8)
    for c in range(out.shape[0]):
        for y in range(first, end):
            for x in range(out.shape[2]):
                out[c, y, x] = data[channels[c] + (y * row + x * pixel) * 4] ^ np.uint8(flip)
