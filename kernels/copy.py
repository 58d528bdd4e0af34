"""Moving values without arithmetic, at listed pixels: slices, padding, and channels in a new order.

Knows arrays and ints only.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES, STORE, VECTOR_BYTES
from kernels.jit import jit
from kernels.layout import (
    CHUNK,
    Map,
    Test,
    activation,
    address_table,
    chunk_pixels,
    commit_pixels,
    exits,
    fill_addresses,
    finish_pixels,
    finish_raw,
    memory,
    raw_of,
    reset_metrics,
    unchanged,
)
from kernels.micro import gather_block, move_block
from kernels.simd import address_of, lane_copy, lane_fill, read_int, table_get, table_set
from kernels.target import HOST, PIXELS

__all__ = ["copy_pixels", "pack_channels"]

GATHERS = HOST.estimates  # AVX-512 alone reads and permutes whole windows of channels
WINDOWS_BYTES = LANES * 96


@jit
def copy_pixels(
    arena: np.ndarray, source: Map, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Copy pixels from the rows and columns that two tables name; compare, write as `convolve` does.

    arena : float32[:]. planes : int64[blocks], element offset of each block from the source's origin.
    rows, columns : int32[Hout], int32[Wout], input row (column) of each output row (column); -1 gives zeros.
    pixels : int32[n, 2], (y, x) in the target. scratch : float32[scratch_elements(blocks)].
    written : uint8[H, W], set to 1 where the target changed. Returns the number of pixels written.
    """
    blocks, total = planes.size, 0
    bases, outs = address_table(), address_table()
    m, plain = memory(arena, pixels, scratch, blocks, written), unchanged()
    finish = activation(plain, 0, 0)
    chunk = chunk_pixels(test)
    for start in range(0, pixels.shape[0], chunk):
        count = min(chunk, pixels.shape[0] - start)
        fill_addresses(m, target, 1, 1, start, count, outs)
        reset_metrics(m, test)
        for slot in range(0, count, PIXELS):
            whole = True
            for i in range(slot, slot + PIXELS):
                entry = m.listed + (start + min(i, count - 1)) * 8
                y, x = np.int64(rows[read_int(entry)]), np.int64(columns[read_int(entry + 4)])
                whole &= bool(y >= 0 and x >= 0)
                table_set(bases, i, m.base + (source.origin + y * source.row + x * source.pixel) * 4)
            if whole:
                for b in range(blocks):
                    move_block(bases + slot * 8, planes[b] * 4, finish, exits(m, target, test, outs, slot, b))
                continue
            for i in range(slot, min(slot + PIXELS, count)):
                entry, raw = m.listed + (start + i) * 8, raw_of(m, i)
                zero = rows[read_int(entry)] < 0 or columns[read_int(entry + 4)] < 0
                for b in range(blocks):
                    if zero:
                        lane_fill(raw + b * VECTOR_BYTES, np.float32(0))
                    else:
                        lane_copy(raw + b * VECTOR_BYTES, table_get(bases, i) + planes[b] * 4)
            finish_raw(m, plain, 0, target, test, outs, slot, slot + PIXELS, count)
        total += commit_pixels(m, target, start, count, test, outs)
    return total


@jit
def channel_windows(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which 16 neighbouring elements to read for each block of output lanes, and where each of them goes.

    channels : int64[blocks * 16], see `pack_channels`. Returns int64[blocks, 16, 12], windows as `emit_gather` reads
    them, and int64[blocks], how many of each block's are used.
    """
    blocks = channels.size // LANES
    windows, counts = np.zeros((blocks, LANES, 12), np.int64), np.zeros(blocks, np.int64)
    lanes = windows.view(np.int32)
    for b in range(blocks):
        done = 0
        while True:
            first = np.int64(-1)
            for lane in range(LANES):
                offset = channels[b * LANES + lane]
                if offset >= 0 and not done >> lane & 1 and (first < 0 or offset < first):
                    first = offset
            if first < 0:
                break
            window = counts[b]
            windows[b, window, 0] = first * 4
            for lane in range(LANES):
                within = channels[b * LANES + lane] - first
                if 0 <= within < LANES:
                    windows[b, window, 1] |= 1 << within
                    windows[b, window, 2] |= 1 << lane
                    lanes[b, window, 8 + lane] = within
                    done |= 1 << lane
            counts[b] += 1
    return windows, counts


@jit
def _gather(arena: np.ndarray, pixel: int, channels: np.ndarray, raw: np.ndarray) -> None:
    """The channels of one pixel, one by one."""
    for lane in range(channels.size):
        offset = channels[lane]
        raw[lane] = np.float32(0) if offset < 0 else arena[pixel + offset]


@jit
def pack_channels(
    arena: np.ndarray, source: Map, channels: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Gather channels from anywhere in a map into new blocks; compare, write as `convolve` does.

    channels : int64[blocks * 16], element offset of each output lane's channel from the source's origin (its
        plane and lane together); -1 gives zeros. A source with origin 0 takes absolute offsets, of several
        maps that have the same strides.
    The rest as in `copy_pixels`. Returns the number of pixels written.
    """
    blocks, total = channels.size // LANES, 0
    m, plain, outs = memory(arena, pixels, scratch, blocks, written), unchanged(), address_table()
    by_windows = GATHERS and pixels.shape[0] >= LANES
    windows, counts = channel_windows(channels if by_windows else channels[:0])
    table = address_of(windows)
    for start in range(0, pixels.shape[0], CHUNK):
        count = min(CHUNK, pixels.shape[0] - start)
        fill_addresses(m, target, 1, 1, start, count, outs)
        for p in range(count):
            entry = m.listed + (start + p) * 8
            pixel = source.origin + read_int(entry) * source.row + read_int(entry + 4) * source.pixel
            if not by_windows:
                _gather(arena, pixel, channels, scratch[p * channels.size : (p + 1) * channels.size])
                continue
            to, step = raw_of(m, p), VECTOR_BYTES
            if test.mode == STORE:
                to, step = table_get(outs, p), target.plane * 4
            for b in range(blocks):
                gather_block(m.base + pixel * 4, table + b * WINDOWS_BYTES, counts[b], to + b * step)
        if by_windows and test.mode == STORE:
            total += commit_pixels(m, target, start, count, test, outs)
        else:
            total += finish_pixels(m, plain, 0, target, start, count, test)
    windows[:] = 0  # keeps it until here: numba frees an array after its last use, not after that of its address
    return total
