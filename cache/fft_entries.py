"""Entries of convolutions by Fourier transforms. Imported where a plan takes one: the library must be there."""

from __future__ import annotations

from kernels.fft import convolve_fft, convolve_fft_depthwise
from kernels.fft_grid import Grid
from kernels.jit import jit
from kernels.layout import Test
from kernels.record import (
    STATE_WORDS,
    Words,
    act_at,
    arena_of,
    entry,
    floats_at,
    ints_2d_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
    work_of,
)


@jit
def grid_at(record: Words, at: int) -> Grid:
    """The `Grid` encoded at a word (8 words)."""
    return Grid(
        record[at], record[at + 1], record[at + 2], record[at + 3], record[at + 4], record[at + 5], record[at + 6],
        record[at + 7],
    )  # fmt: skip


@entry
def fft_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, axes, grid, points, spans, weights, bias, slope, target map, activation, target."""
    r, s = words_at(record, 37), words_at(state, STATE_WORDS)
    return convolve_fft(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_at(r, 6), grid_at(r, 8), ints_at(r, 16), ints_2d_at(r, 18),
        floats_at(r, 21), floats_at(r, 23), floats_at(r, 25), map_at(r, 27), pixels_at(pixels, count), act_at(r, 31),
        Test(mode, limit, block), scratch_of(s, worker), work_of(s, worker), mask_of(s, r[36]),
    )  # fmt: skip


@entry
def fft_depthwise_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, axes, grid, points, weights, bias, slope, target map, activation, target."""
    r, s = words_at(record, 35), words_at(state, STATE_WORDS)
    return convolve_fft_depthwise(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_at(r, 6), grid_at(r, 8), ints_2d_at(r, 16), floats_at(r, 19),
        floats_at(r, 21), floats_at(r, 23), map_at(r, 25), pixels_at(pixels, count), act_at(r, 29),
        Test(mode, limit, block), scratch_of(s, worker), work_of(s, worker), mask_of(s, r[34]),
    )  # fmt: skip
