"""What a convolution is guessed to take beside another one."""

from __future__ import annotations

from service.compression.cost import blocks, time_ns
from service.compression.decompose import Piece

HERE, HALF = (40, 40), (20, 20)


def test_lanes_come_in_blocks():
    assert [blocks(n) for n in (1, 16, 17, 96)] == [16, 16, 32, 96]
    assert time_ns(Piece((5, 32, 1, 1)), HERE, HERE) == time_ns(Piece((16, 32, 1, 1)), HERE, HERE)
    assert time_ns(Piece((5, 17, 1, 1)), HERE, HERE) == time_ns(Piece((5, 32, 1, 1)), HERE, HERE)


def test_winograd_is_for_windows_of_stride_one():
    window = Piece((64, 64, 3, 3))
    assert 4 * time_ns(window, HERE, HALF) > 2 * time_ns(window, HERE, HERE), (
        "pixel for pixel the strided one is dearer"
    )
    assert time_ns(Piece((64, 64, 3, 1)), HERE, HERE) * 3 > 2 * time_ns(window, HERE, HERE)


def test_a_picture_has_few_channels_and_they_are_not_filled_up():
    assert time_ns(Piece((32, 3, 3, 3)), HERE, HALF) < time_ns(Piece((32, 16, 3, 3)), HERE, HALF) / 2


def test_each_channel_by_itself_is_cheap():
    assert time_ns(Piece((64, 1, 3, 3), 64), HERE, HERE) < time_ns(Piece((64, 64, 3, 3)), HERE, HERE) / 10
