"""Tensors that are handed out, brought up to date with the maps that a frame wrote.

A *tap* is such a tensor and the maps that it lies in: a row of an int64 table.
"""

from __future__ import annotations

import numpy as np

from kernels.byte_maps import unpack_bytes
from kernels.half import unpack_half
from kernels.image import unpack_rows
from kernels.jit import jit
from kernels.masks import marked_rows
from kernels.record import arena_of, bytes_3d_at, floats_3d_at, halves_at, mask_of, words_at

# Columns of a tap: addresses of the elements int64[C] of its channels and of its own [C, H, W], strides in elements,
# size, which of the maps in a list it lies in, and what these hold: FLOATS, UNSIGNED or SIGNED bytes of the arena, or
# HALVES of a store, uint16[T_STORED] at the address T_STORE.
T_OFFSETS, T_ROW, T_PIXEL, T_OUT, T_CHANNELS, T_HEIGHT, T_WIDTH, T_FIRST_MAP, T_MAPS, T_KIND = range(10)
T_STORE, T_STORED, TAP_WORDS = range(10, 13)
FLOATS, HALVES, UNSIGNED, SIGNED = range(4)
SIGN_BIT = 128  # of an int8, whose map holds it as the uint8 that is greater by this


@jit
def _unpack(tap: np.ndarray, arena: np.ndarray, first: int, end: int) -> None:
    """Copy rows `first` to `end` - 1 of a tap's maps into its tensor."""
    channels, row, pixel, kind = words_at(tap[T_OFFSETS], tap[T_CHANNELS]), tap[T_ROW], tap[T_PIXEL], tap[T_KIND]
    if kind == FLOATS:
        unpack_rows(arena, channels, row, pixel, first, end, floats_3d_at(tap, T_OUT))
    elif kind == HALVES:
        store = halves_at(tap[T_STORE], tap[T_STORED])
        unpack_half(store, channels, row, pixel, first, end, floats_3d_at(tap, T_OUT))
    else:
        flip = SIGN_BIT if kind == SIGNED else 0
        unpack_bytes(arena, channels, row, pixel, flip, first, end, bytes_3d_at(tap, T_OUT))


@jit
def hand_out(taps: np.ndarray, tap_maps: np.ndarray, state: np.ndarray, touched: np.ndarray, whole: bool) -> None:
    """Copy into tensors what this frame wrote: all of a tap's maps, or at least the rows that were written.

    taps : int64[n, 12], columns as named above. tap_maps : int64[m].
    """
    arena = arena_of(state)
    for t in range(taps.shape[0]):
        tap = taps[t]
        first, end = tap[T_HEIGHT], 0
        for i in range(tap[T_FIRST_MAP], tap[T_FIRST_MAP] + tap[T_MAPS]):
            index = tap_maps[i]
            if touched[index]:
                top, bottom = (0, tap[T_HEIGHT]) if whole else marked_rows(mask_of(state, index))
                if top < bottom:
                    first, end = min(first, top), max(end, bottom)
        if first < end:
            _unpack(tap, arena, first, end)
