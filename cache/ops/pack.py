"""Packing: gather channels scattered over maps into blocks of their own."""

from __future__ import annotations

from cache.steps import Method, Words, method
from kernels.copy import pack_channels
from kernels.layout import Map, Test
from kernels.record import (
    STATE_WORDS,
    arena_of,
    entry,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)


@entry
def packing(record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int) -> int:
    """source, channels, target map, target."""
    r, s = words_at(record, 11), words_at(state, STATE_WORDS)
    return pack_channels(
        arena_of(s), map_at(r, 0), ints_at(r, 4), map_at(r, 6), pixels_at(pixels, count), Test(mode, limit, block),
        scratch_of(s, worker), mask_of(s, r[10]),
    )  # fmt: skip


def pack_method(source: Map, table: Words, place: Map, target: int) -> Method:
    """table : int64[blocks * 16], arena element of each lane's channel; -1 is zero. source : origin 0, strides."""
    return method(packing, source, table, place, target)
