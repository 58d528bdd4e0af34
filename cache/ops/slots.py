"""Byte maps as the plan sees them: 64 channels to a slot, read by quarters or whole; made, mirrored and packed.

A `Value` of bytes counts channels of a map by byte: channel 64 * s + i is byte i of slot s. In a *narrow* map (the
image's) a slot has 4 bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cache.arena import MapInfo
from cache.builder import Builder, Maps, whole_reads
from cache.graph import Graph
from cache.steps import Step, method
from cache.values import Blocks, Ints, Value
from kernels.byte_maps import pack_bytes
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

SLOT = 64


@entry
def byte_packing(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, channels, target map, target."""
    r, s = words_at(record, 11), words_at(state, STATE_WORDS)
    return pack_bytes(
        arena_of(s), map_at(r, 0), ints_at(r, 4), map_at(r, 6), pixels_at(pixels, count), Test(mode, limit, block),
        scratch_of(s, worker), mask_of(s, r[10]),
    )  # fmt: skip


def stored_offset(graph: Graph, tensor: str) -> int:
    """What is added to a value of a byte tensor to store it: 128 for int8."""
    found = graph.type_of(tensor)
    assert found is not None, tensor
    return 128 if found.dtype == np.int8 else 0


def table_words(table: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.int32]:
    """A table as a record takes it: int32[64], or int32[0] for none."""
    return np.zeros(0, np.int32) if table is None else np.ascontiguousarray(table).view(np.int32)


def new_byte_value(builder: Builder, tensor: str, channels: int, height: int, width: int) -> tuple[int, Value]:
    """A byte map of its own for a tensor, channels in order; returns its index and registers the value."""
    position = np.arange(channels, dtype=np.int64)
    index = mirror_slots(builder, tensor, -(-channels // SLOT), position, height, width)
    return index, builder.values[tensor]


def mirror_slots(builder: Builder, tensor: str, slots: int, position: Ints, height: int, width: int) -> int:
    """A byte map of some slots, channel c at byte `position[c]`; returns its index and registers the value."""
    index = builder.new_map(tensor, slots, height, width)
    builder.values[tensor] = Value(height, width, np.full(position.size, index, np.int64), position)
    builder.live[index] = position
    return index


def new_narrow_value(builder: Builder, tensor: str, channels: int, height: int, width: int) -> int:
    """A map of 4 bytes to a pixel."""
    index = builder.arena.declare(tensor, 0, height, width, builder.input_height / height, 1)
    position = np.arange(channels, dtype=np.int64)
    builder.values[tensor] = Value(height, width, np.full(channels, index, np.int64), position)
    builder.live[index] = position
    return index


def is_narrow(builder: Builder, value: Value) -> bool:
    """Whether a value lies in a narrow map."""
    return builder.arena.maps[int(value.maps[0])].blocks == 0


def slots_of(value: Value) -> Blocks:
    """The slots that a value touches, in order of first use, and the byte of each channel in them."""
    keys: dict[tuple[int, int], int] = {}
    position = np.empty(len(value), np.int64)
    for c, (m, channel) in enumerate(zip(value.maps.tolist(), value.channels.tolist(), strict=True)):
        position[c] = keys.setdefault((m, channel // SLOT), len(keys)) * SLOT + channel % SLOT
    maps, numbers = np.array(list(keys), np.int64).reshape(-1, 2).T
    return Blocks(maps, numbers, position)


def slot_offsets(maps: Maps, slots: Blocks) -> tuple[MapInfo, Ints]:
    """The first touched map, and each touched slot's element offset from that map's origin."""
    first = maps[int(slots.maps[0])]
    offsets = [
        maps[m].origin + number * maps[m].plane - first.origin
        for m, number in zip(slots.maps.tolist(), slots.numbers.tolist(), strict=True)
    ]
    return first, np.array(offsets, np.int64)


def quarter_offsets(maps: Maps, quarters: Blocks) -> tuple[MapInfo, Ints]:
    """The first touched map, and each touched 16 channels' byte offset from that map's origin.

    quarters : `Value.blocks` of a value of bytes.
    """
    first = maps[int(quarters.maps[0])]
    offsets = [
        (maps[m].origin - first.origin + number // 4 * maps[m].plane) * 4 + number % 4 * 16
        for m, number in zip(quarters.maps.tolist(), quarters.numbers.tolist(), strict=True)
    ]
    return first, np.array(offsets, np.int64)


def byte_offsets(maps: Maps, value: Value) -> Ints:
    """Byte of the arena of each channel of a value of bytes at (0, 0)."""
    offsets = [
        (maps[m].origin + channel // SLOT * maps[m].plane) * 4 + channel % SLOT
        for m, channel in zip(value.maps.tolist(), value.channels.tolist(), strict=True)
    ]
    return np.array(offsets, np.int64)


def dense_slots(builder: Builder, tensor: str) -> tuple[Value, Blocks]:
    """A value's slots, packed first if it repeats a channel, is narrow, or is scattered over many."""
    value = builder.values[tensor]
    slots = slots_of(value)
    if slots.is_injective and not is_narrow(builder, value) and len(slots) <= 1 + -(-4 * len(value) // (3 * SLOT)):
        return value, slots
    order = np.full(-(-len(value) // SLOT) * SLOT, -1, np.int64)
    order[: len(value)] = np.arange(len(value))
    packed, slots = pack_slots(builder, tensor, value, order)
    builder.values[tensor] = packed
    return packed, slots


def pack_slots(builder: Builder, tensor: str, value: Value, order: Ints) -> tuple[Value, Blocks]:
    """Copy a value into a byte map of its own; byte i of the map holds channel `order[i]` (-1: zero)."""
    name = f"{tensor} (packed)"
    index = builder.new_map(name, order.size // SLOT, value.height, value.width)
    positions = np.empty(len(value), np.int64)
    builder.live[index] = live = np.flatnonzero(order >= 0)
    positions[order[live]] = live
    packed = Value(value.height, value.width, np.full(len(value), index, np.int64), positions)
    reads = whole_reads(value)

    def finish(maps: Maps) -> Step:
        first = maps[int(value.maps[0])]
        table = np.full(order.size, -1, np.int64)
        table[live] = byte_offsets(maps, value)[order[live]]
        made = method(byte_packing, Map(0, first.plane, first.row, first.pixel), table, maps[index].layout, index)
        return Step(name, "pack", index, reads, 0, len(value), False, made)

    builder.emit(finish)
    return packed, slots_of(packed)
