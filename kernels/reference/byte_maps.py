"""Twins of `kernels.byte_maps`."""

from __future__ import annotations

import numpy as np

from kernels.byte_maps import Exit, Terms
from kernels.constants import MUL, STORE, TEST_RMS, VECTOR_BYTES
from kernels.layout import Act, Map, Test, Window
from kernels.reference.common import finish, positions
from kernels.reference.pool import _window, _within
from kernels.spread import SAMPLES

Array = np.ndarray


def byte_positions(at: Map, pixels: Array, offsets: Array, lanes: int) -> Array:
    """int64[n, len(offsets) * lanes], bytes of the arena: `lanes` channels from each byte offset of each pixel."""
    first = positions(at, pixels[:, 0], pixels[:, 1])[:, None] * 4
    inner = (np.asarray(offsets, np.int64)[:, None] + np.arange(lanes)).reshape(-1)
    where: Array = first + inner
    return where


def to_bytes(x: Array, ending: Exit) -> Array:
    """float32 to uint8: limited, rounded half to even, plus the zero point."""
    limited = np.minimum(np.maximum(x, np.float32(ending.low)), np.float32(ending.high))
    return np.asarray(np.rint(limited).astype(np.int64) + ending.zero, np.uint8)


def whole_slots(values: Array) -> Array:
    """Channels filled up with zeros to whole slots."""
    return np.pad(values, ((0, 0), (0, -values.shape[1] % VECTOR_BYTES)))


def finish_slots(
    arena: Array, values: Array, table: Array, target: Map, pixels: Array, test: Test, written: Array
) -> int:
    """Look up uint8[n, channels], write the groups of pixels that pass the test, count them."""
    values, data = whole_slots(values), arena.view(np.uint8)
    if table.size:
        values = table[values]
    planes = np.arange(values.shape[1] // VECTOR_BYTES) * target.plane * 4
    where = byte_positions(target, pixels, planes, VECTOR_BYTES)
    stored = data[where]
    differs = np.any(values != stored, axis=1)
    if test.mode == STORE:
        differs[:] = True
    elif test.mode == TEST_RMS:
        square = np.sum(np.square(values.astype(np.int64) - stored), axis=1)
        differs = square.astype(np.float32) > np.float32(test.limit)
    if test.mode == STORE and test.limit < 0:
        data[where] = values
        return len(pixels)
    group, before = test.block * test.block, np.count_nonzero(written)
    for first in range(0, len(pixels), group):
        members = slice(first, first + group)
        if np.any(differs[members]):
            data[where[members]] = values[members]
            written[pixels[members, 0], pixels[members, 1]] = 1
    return int(np.count_nonzero(written) - before)


def quantise(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: float, ending: Exit, table: np.ndarray, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """One division, one rounding."""
    where = byte_positions(source, pixels, planes * 4, 16 * 4)[:, ::4] // 4
    values = to_bytes(arena[where] / np.float32(scale), ending)
    return finish_slots(arena, values, table, target, pixels, test, written)


def quantise_image(
    arena: np.ndarray, source: Map, channels: int, scale: float, ending: Exit, target: Map, pixels: np.ndarray,
    test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """The same, four bytes to a pixel."""
    read = positions(source, pixels[:, 0], pixels[:, 1])[:, None] + np.arange(channels)
    values = np.zeros((len(pixels), 4), np.uint8)
    values[:, :channels] = to_bytes(arena[read] / np.float32(scale), ending)
    data, where = arena.view(np.uint8), byte_positions(target, pixels, np.zeros(1), 4)
    differs = np.any(values != data[where], axis=1) | (test.mode == STORE)
    group, before = test.block * test.block, np.count_nonzero(written)
    for first in range(0, len(pixels), group):
        members = slice(first, first + group)
        if np.any(differs[members]):
            data[where[members]] = values[members]
            written[pixels[members, 0], pixels[members, 1]] = 1
    return int(np.count_nonzero(written) - before)


def dequantise(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: np.ndarray, zero: int, slope: np.ndarray, target: Map,
    pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """One subtraction, one product."""
    stored = arena.view(np.uint8)[byte_positions(source, pixels, planes, 16)]
    raw = (stored.astype(np.int64) - zero).astype(np.float32) * scale[0]
    return finish(arena, raw, slope, target, pixels, act, test, written)


def look_up(
    arena: np.ndarray, source: Map, planes: np.ndarray, table: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bytes as indices."""
    values = arena.view(np.uint8)[byte_positions(source, pixels, planes * 4, VECTOR_BYTES)]
    return finish_slots(arena, values, table, target, pixels, test, written)


def combine_bytes(
    op: int, arena: np.ndarray, first: Map, first_planes: np.ndarray, second: Map, second_planes: np.ndarray,
    vectors: int, terms: Terms, ending: Exit, table: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """In float32, in the order that `Terms` states."""
    data = arena.view(np.uint8)
    offsets = [np.float32(v) for v in (terms.offset_first, terms.offset_second)]
    x = data[byte_positions(first, pixels, first_planes * 4, VECTOR_BYTES)].astype(np.float32) - offsets[0]
    y = data[byte_positions(second, pixels, second_planes * 4, VECTOR_BYTES)].astype(np.float32) - offsets[1]
    factor, other, fixed = (np.float32(v) for v in (terms.factor, terms.other, terms.fixed))
    result = (x * y) * factor + fixed if op == MUL else (x * factor + fixed) + y * other
    values = to_bytes(result, ending)
    values[:, vectors * 16 :] = 0
    return finish_slots(arena, values, table, target, pixels, test, written)


def pool_max_bytes(
    arena: np.ndarray, source: Map, planes: np.ndarray, height: int, width: int, window: Window, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Largest byte under the window's part in the map."""
    data = arena.view(np.uint8)
    values = np.zeros((len(pixels), planes.size * VECTOR_BYTES), np.uint8)
    for i, (y, x) in enumerate(pixels):
        rows, columns = _window(window, int(y), int(x))
        rows, columns = _within(rows, 0, height), _within(columns, 0, width)
        under = np.stack([np.repeat(rows, columns.size), np.tile(columns, rows.size)], axis=1)
        taps = data[byte_positions(source, under, planes * 4, VECTOR_BYTES)]
        values[i] = taps.max(axis=0, initial=0)
    return finish_slots(arena, values, np.empty(0, np.uint8), target, pixels, test, written)


def pack_bytes(
    arena: np.ndarray, source: Map, channels: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Fancy indexing."""
    where = byte_positions(source, pixels, channels, 1)
    values = np.where(channels < 0, 0, arena.view(np.uint8)[where]).astype(np.uint8)
    return finish_slots(arena, values, np.empty(0, np.uint8), target, pixels, test, written)


def spread_bytes(arena: np.ndarray, source: Map, height: int, width: int, lanes: np.ndarray) -> float:
    """From the integer sums of values and of squares."""
    step = 2
    while -(-height // step) * -(-width // step) > SAMPLES:
        step += 1
    pixels = np.moveaxis(np.mgrid[:height:step, :width:step], 0, -1).reshape(-1, 2)
    offsets = lanes // VECTOR_BYTES * source.plane * 4 + lanes % VECTOR_BYTES
    values = arena.view(np.uint8)[byte_positions(source, pixels, offsets, 1)].astype(np.int64)
    mean = values.sum() / max(values.size, 1)
    return float(np.sqrt(max(np.square(values).sum() / max(values.size, 1) - mean * mean, 0.0)))


def unpack_bytes(
    arena: np.ndarray, channels: np.ndarray, row: int, pixel: int, flip: int, first: int, end: int, out: np.ndarray
) -> None:
    """Fancy indexing."""
    pixels = np.moveaxis(np.mgrid[first:end, : out.shape[2]], 0, -1).reshape(-1, 2)
    values = arena.view(np.uint8)[byte_positions(Map(0, 0, row, pixel), pixels, channels, 1)]
    out[:, first:end] = (values ^ np.uint8(flip)).T.reshape(out.shape[0], end - first, out.shape[2])
