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
def _ingest(
    frame: np.ndarray, table: np.ndarray, tiles: np.ndarray, tile: int, arena: np.ndarray, target: Map,
    lanes: int, reference: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    height, width, channels = frame.shape
    total = 0
    for tile_y in range(tiles.shape[0]):
        for tile_x in range(tiles.shape[1]):
            if tiles[tile_y, tile_x] == 0:
                continue
            left, right = tile_x * tile, min(tile_x * tile + tile, width)
            for y in range(tile_y * tile, min(tile_y * tile + tile, height)):
                start = target.origin + y * target.row
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
