"""Values of bytes: which slots they touch, where their channels lie, when they are packed."""

from __future__ import annotations

import numpy as np

from cache.arena import MapInfo
from cache.ops.slots import byte_offsets, quarter_offsets, slot_offsets, slots_of, table_words
from cache.values import Value, concatenate


def value(index: int, channels: np.ndarray) -> Value:
    return Value(4, 5, np.full(channels.size, index, np.int64), channels.astype(np.int64))


MAPS = [MapInfo(i, "m", 2, 4, 5, 16, 1.0, (0, 0, 0, 0), origin, 320, 80) for i, origin in enumerate((1000, 5000))]
JOINED = concatenate([value(0, np.array([70, 3, 66])), value(1, np.array([0, 17]))])


def test_slots() -> None:
    slots = slots_of(JOINED)
    assert list(zip(slots.maps.tolist(), slots.numbers.tolist(), strict=True)) == [(0, 1), (0, 0), (1, 0)]
    np.testing.assert_array_equal(slots.position, [6, 64 + 3, 2, 128, 128 + 17])
    info, offsets = slot_offsets(MAPS, slots)
    assert info is MAPS[0]
    np.testing.assert_array_equal(offsets, [320, 0, 4000])


def test_quarters() -> None:
    quarters = JOINED.blocks()
    np.testing.assert_array_equal(quarters.numbers, [4, 0, 0, 1])
    info, offsets = quarter_offsets(MAPS, quarters)
    assert info is MAPS[0]
    np.testing.assert_array_equal(offsets, [320 * 4, 0, 4000 * 4, 4000 * 4 + 16])


def test_bytes_of_channels() -> None:
    expected = [(1000 + 320) * 4 + 6, 4000 + 3, (1000 + 320) * 4 + 2, 20000, 20017]
    np.testing.assert_array_equal(byte_offsets(MAPS, JOINED), expected)


def test_table_words() -> None:
    table = np.arange(256, dtype=np.uint8)[::-1].copy()
    np.testing.assert_array_equal(table_words(table).view(np.uint8), table)
    assert table_words(None).shape == (0,)
