"""Views of channels: order, blocks, scatter."""

from __future__ import annotations

import numpy as np

from cache.values import Value, concatenate


def whole(index: int, channels: int) -> Value:
    return Value(4, 4, np.full(channels, index, np.int64), np.arange(channels, dtype=np.int64))


def test_concatenation_then_selection_finds_each_channel():
    both = concatenate([whole(1, 20), whole(2, 8)])
    view = both.select(np.array([27, 0, 19], np.int64))
    assert view.maps.tolist() == [2, 1, 1]
    assert view.channels.tolist() == [7, 0, 19]


def test_blocks_are_listed_once_in_order_of_first_use():
    blocks = concatenate([whole(1, 20), whole(2, 8)]).select(np.array([26, 3, 17, 20], np.int64)).blocks()
    assert blocks.maps.tolist() == [2, 1, 1]
    assert blocks.numbers.tolist() == [0, 0, 1]
    assert blocks.position.tolist() == [6, 19, 33, 0]
    assert blocks.is_injective


def test_repeated_channels_are_seen():
    assert not whole(1, 4).select(np.array([1, 1], np.int64)).blocks().is_injective


def test_scatter():
    assert not whole(1, 64).blocks().is_scattered
    assert not whole(1, 20).blocks().is_scattered
    every_sixteenth = concatenate([whole(i, 16).select(np.array([0], np.int64)) for i in range(8)])
    assert every_sixteenth.blocks().is_scattered
