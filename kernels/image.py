"""From pixels and tensors to maps in the arena, and back.

An interleaved map holds a pixel's C channels side by side; a blocked one 16 channels per block. Both are
addressed as origin + (channel // lanes) * plane + y * row + x * pixel + channel % lanes, with lanes = C or
16.
"""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.jit import jit
from kernels.layout import Map

__all__ = ["ingest_blocked", "ingest_tensor", "ingest_tiles", "unpack"]


@jit
def _bgr_run(
    frame: np.ndarray, table: np.ndarray, y: int, left: int, right: int, arena: np.ndarray, start: int,
    reference: np.ndarray,
) -> None:  # fmt: skip
    """Three channels side by side, from `left` to `right` of row y; start : element of the row's first pixel."""
    at = np.uint64(start + left * 3)  # unsigned indices skip the check for negative ones
    for x in range(np.uint64(left), np.uint64(right)):
        b, g, r = frame[y, x, 0], frame[y, x, 1], frame[y, x, 2]
        reference[y, x, 0], reference[y, x, 1], reference[y, x, 2] = b, g, r
        arena[at], arena[at + np.uint64(1)], arena[at + np.uint64(2)] = table[b, 0], table[g, 1], table[r, 2]
        at += np.uint64(3)


@jit
def _ingest(
    frame: np.ndarray, table: np.ndarray, tiles: np.ndarray, tile: int, arena: np.ndarray, target: Map,
    lanes: int, reference: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Row by row, runs of marked tiles at a time."""
    height, width, channels = frame.shape
    columns, total = tiles.shape[1], 0
    for y in range(height):
        tile_y, tile_x, start = y // tile, 0, target.origin + y * target.row
        while tile_x < columns:
            if tiles[tile_y, tile_x] == 0:
                tile_x += 1
                continue
            left = tile_x * tile
            while tile_x < columns and tiles[tile_y, tile_x] != 0:
                tile_x += 1
            right = min(tile_x * tile, width)
            if lanes == 3 and channels == 3 and target.pixel == 3:
                _bgr_run(frame, table, y, left, right, arena, start, reference)
            else:
                for c in range(channels):
                    at = start + c // lanes * target.plane + c % lanes
                    for x in range(left, right):
                        value = frame[y, x, c]
                        reference[y, x, c] = value
                        arena[at + x * target.pixel] = table[value, c]
            written[y, left:right] = 1
            total += right - left
    return total


@jit
def ingest_tiles(
    frame: np.ndarray, table: np.ndarray, tiles: np.ndarray, tile: int, arena: np.ndarray, target: Map,
    reference: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Write the marked tiles of a frame into an interleaved map, and into the reference frame.

    frame, reference : uint8[H, W, C]. table : float32[256, C], the value of each byte in each channel.
    tiles : uint8[ceil(H / tile), ceil(W / tile)]. tile : edge in pixels. arena : float32[:].
    target : map of which each pixel holds C elements; its plane is not used.
    written : uint8[H, W], set to 1 for every pixel of a marked tile. Returns the number of these pixels.
    """
    return _ingest(frame, table, tiles, tile, arena, target, frame.shape[2], reference, written)


@jit
def ingest_blocked(
    frame: np.ndarray, table: np.ndarray, tiles: np.ndarray, tile: int, arena: np.ndarray, target: Map,
    reference: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """`ingest_tiles` into a blocked map: channel c is lane c % 16 of block c // 16."""
    return _ingest(frame, table, tiles, tile, arena, target, LANES, reference, written)


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


@jit
def unpack(arena: np.ndarray, channels: np.ndarray, row: int, pixel: int, out: np.ndarray) -> None:
    """Copy a map into a tensor: out[c, y, x] = arena[channels[c] + y * row + x * pixel].

    arena : float32[:]. channels : int64[C], element offset of each channel at (0, 0). row, pixel : strides in
    elements. out : float32[C, H, W], C-contiguous.
    """
    for y in range(out.shape[1]):
        for c in range(out.shape[0]):
            at = channels[c] + y * row
            for x in range(out.shape[2]):
                out[c, y, x] = arena[at + x * pixel]
