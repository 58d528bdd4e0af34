"""From pixels and tensors to maps in the arena, and back.

An interleaved map holds a pixel's C channels side by side; a blocked one 16 channels per block. Both are
addressed as origin + (channel // lanes) * plane + y * row + x * pixel + channel % lanes, with lanes = C or
16.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.jit import jit
from kernels.layout import Map, address_table
from kernels.micro import unpack_16
from kernels.simd import address_of, table_set

__all__ = ["ingest_tensor", "unpack_rows"]


@jit
def ingest_tensor(x: np.ndarray, arena: np.ndarray, target: Map, lanes: int, written: np.ndarray) -> int:
    """Write the values of a tensor whose bits differ from those in the map.

    x : float32[C, H, W]. arena : float32[:]. lanes : channels side by side in a pixel of the target, C for an
    interleaved map, 16 for a blocked one. written : uint8[H, W], set to 1 where any channel differed.

    Returns the number of pixels that differed.
    """
    channels, height, width = x.shape
    bits, stored = x.view(np.uint32), arena.view(np.uint32)
    total = 0
    hits = np.empty(width, np.uint8)
    for row in range(height):
        hits[:] = 0
        for c in range(channels):
            at = target.origin + c // lanes * target.plane + c % lanes + row * target.row
            for column in range(width):
                value = bits[c, row, column]
                if stored[at + column * target.pixel] != value:
                    stored[at + column * target.pixel] = value
                    hits[column] = 1
        for column in range(width):
            total += hits[column]
            written[row, column] |= hits[column]
    return total


WORTHWHILE = 6  # channels side by side, from which on turning 16 of them is faster than reading them one by one


@jit
def _unpack_scalar(
    arena: np.ndarray, channels: np.ndarray, row: int, pixel: int, c: int, first: int, end: int, out: np.ndarray
) -> None:
    """One channel, value by value."""
    for y in range(first, end):
        at = channels[c] + y * row
        for x in range(out.shape[2]):
            out[c, y, x] = arena[at + x * pixel]


@jit
def neighbours(channels: np.ndarray, c: int) -> int:
    """How many channels from `c` on, 16 at most, lie side by side."""
    count = 1
    while c + count < channels.size and count < LANES and channels[c + count] == channels[c] + count:
        count += 1
    return count


@jit
def unpack_rows(
    arena: np.ndarray, channels: np.ndarray, row: int, pixel: int, first: int, end: int, out: np.ndarray
) -> None:
    """Copy rows `first` to `end` - 1 of a map into a tensor: out[c, y, x] = arena[channels[c] + y * row + x * pixel].

    arena : float32[:]. channels : int64[C], element offset of each channel at (0, 0). row, pixel : strides in
    elements. out : float32[C, H, W], C-contiguous.

    Fast for channels that lie side by side, up to 16 at a time, in their order.
    """
    width = out.shape[2]
    pixels, plane = (end - first) * width, out.shape[1] * width * 4
    base, target = address_of(arena), address_of(out) + first * width * 4
    farthest = (end - 1) * row + (width - 1) * pixel
    table, c = address_table(), 0
    while c < channels.size:
        count = neighbours(channels, c)
        # Whole vectors must stay inside the arena; 16 pixels are needed to fill one.
        if count < WORTHWHILE or pixels < LANES or channels[c] + farthest + LANES > arena.size:
            _unpack_scalar(arena, channels, row, pixel, c, first, end, out)
            c += 1
            continue
        y, x = first, 0
        for tile in range(0, pixels, LANES):
            at = min(tile, pixels - LANES)
            if at < tile:  # some once more, to fill the vectors
                y, x = first + at // width, at % width
            for p in range(LANES):
                table_set(table, p, base + (y * row + x * pixel) * 4)
                x += 1
                if x == width:
                    x, y = 0, y + 1
            unpack_16(table, channels[c] * 4, target + c * plane + at * 4, plane, count)
        c += count
