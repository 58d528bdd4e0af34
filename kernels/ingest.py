"""From the pixels of a frame to the input map, tile by tile: into the reference frame first, from there to numbers.

An interleaved map holds a pixel's C channels side by side; a blocked one 16 channels per block. Knows arrays and ints
only.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit
from kernels.layout import Map
from kernels.simd import address_of
from kernels.simd_image import copy_bytes, fill_bytes, scale_bytes

__all__ = ["grow_tiles", "show_tiles", "take_tiles"]

GROUP = 16
"""Pixels that are turned into numbers together, aligned."""
PATTERN = 48
"""float32 of a slope or shift: a group of three channels."""


@jit
def _next_run(tiles: np.ndarray, y: int, first: int) -> tuple[int, int]:
    """First and end of the next run of marked tiles in a row of tiles; the row's end twice where there is none."""
    columns = tiles.shape[1]
    while first < columns and tiles[y, first] == 0:
        first += 1
    end = first
    while end < columns and tiles[y, end] != 0:
        end += 1
    return first, end


@jit
def take_tiles(frame: np.ndarray, tiles: np.ndarray, tile: int, reference: np.ndarray, written: np.ndarray) -> int:
    """Copy the marked tiles of a frame into the reference frame, and mark their pixels.

    frame, reference : uint8[H, W, C], C-contiguous. tiles : uint8[ceil(H / tile), ceil(W / tile)]. tile : edge in
    pixels. written : uint8[H, W], C-contiguous, set to 1 for every pixel of a marked tile. Returns how many these are.
    """
    height, width, channels = frame.shape
    total = 0
    for tile_y in range(tiles.shape[0]):
        top, bottom = tile_y * tile, min(tile_y * tile + tile, height)
        first, end = _next_run(tiles, tile_y, 0)
        while first < end:
            left, right = first * tile, min(end * tile, width)
            for y in range(top, bottom):
                at = y * width + left
                size = (right - left) * channels
                copy_bytes(address_of(reference) + at * channels, address_of(frame) + at * channels, size)
                fill_bytes(address_of(written) + at, np.uint8(1), right - left)
            total += (right - left) * (bottom - top)
            first, end = _next_run(tiles, tile_y, end)
    return total


@jit
def _show(
    frame: np.ndarray, table: np.ndarray, y: int, left: int, right: int, arena: np.ndarray, target: Map, lanes: int
) -> None:
    """Numbers of the pixels left to right - 1 of row y, from the table."""
    row = target.origin + y * target.row
    for c in range(frame.shape[2]):
        start = row + c // lanes * target.plane + c % lanes
        for x in range(left, right):
            arena[start + x * target.pixel] = table[frame[y, x, c], c]


@jit
def show_tiles(
    frame: np.ndarray, table: np.ndarray, slope: np.ndarray, shift: np.ndarray, tiles: np.ndarray, tile: int,
    arena: np.ndarray, target: Map, lanes: int,
) -> None:  # fmt: skip
    """Write the marked tiles of a frame into the input map, and what lies beside them in the same 16 pixels of a row.

    frame : uint8[H, W, C], C-contiguous. table : float32[256, C], the value of each byte in each channel.
    slope, shift : float32[48], where the table is byte * slope + shift, rounded once: channel by channel, over and
        over; float32[0] where it is not. C divides 48.
    tiles : uint8[ceil(H / tile), ceil(W / tile)]. tile : edge in pixels. arena : float32[:].
    target : map of which each pixel holds the channels; lanes : channels side by side, C in an interleaved map, 16 in a
        blocked one (channel c is lane c % 16 of block c // 16).
    """
    height, width, channels = frame.shape
    by_line = slope.size == PATTERN and lanes == channels and target.pixel == channels
    pixels, numbers, slopes, shifts = address_of(frame), address_of(arena), address_of(slope), address_of(shift)
    for tile_y in range(tiles.shape[0]):
        top, bottom = tile_y * tile, min(tile_y * tile + tile, height)
        first, end = _next_run(tiles, tile_y, 0)
        while first < end:
            left = first * tile // GROUP * GROUP
            right = min((end * tile + GROUP - 1) // GROUP * GROUP, width)
            whole = (right - left) * channels // PATTERN if by_line else 0
            done = left + whole * PATTERN // channels
            for y in range(top, bottom):
                if whole > 0:
                    write = numbers + (target.origin + y * target.row + left * channels) * 4
                    scale_bytes(pixels + (y * width + left) * channels, write, slopes, shifts, whole)
                if done < right:
                    _show(frame, table, y, done, right, arena, target, lanes)
            first, end = _next_run(tiles, tile_y, end)


@jit
def grow_tiles(tiles: np.ndarray, reach: int, grown: np.ndarray) -> None:
    """grown = 1 for tiles within `reach` of a marked one, diagonally too, else 0; both uint8[rows, columns]."""
    rows, columns = tiles.shape
    wide = np.zeros((rows, columns), np.uint8)
    for y in range(rows):
        first, end = _next_run(tiles, y, 0)
        while first < end:
            wide[y, max(first - reach, 0) : min(end + reach, columns)] = 1
            first, end = _next_run(tiles, y, end)
    grown[:] = 0
    for y in range(rows):
        for other in range(max(0, y - reach), min(rows, y + reach + 1)):
            for x in range(columns):
                grown[y, x] |= wide[other, x]
