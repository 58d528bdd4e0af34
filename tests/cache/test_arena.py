"""Maps get places that do not overlap, with borders as wide as asked."""

from __future__ import annotations

import numpy as np

from cache.arena import LANES, ArenaBuilder, aligned_copy, aligned_zeros


def test_maps_do_not_overlap_and_borders_hold():
    builder = ArenaBuilder()
    image = builder.declare("image", 0, 6, 5, 1.0, 3)
    wide = builder.declare("wide", 2, 6, 5, 1.0)
    twin = builder.declare("twin", 1, 6, 5, 1.0)
    small = builder.declare("small", 1, 3, 2, 2.0)
    builder.require_border(wide, (1, 2, 3, 4))
    builder.require_border(image, (2, 0, 0, 0))
    maps, elements = builder.finish()
    arena = aligned_zeros(elements)
    for number, info in enumerate(maps, start=1):
        view = info.view(arena)
        assert not view.any(), "a map overlaps one written before"
        view[:] = number
    assert maps[wide].border == maps[twin].border == (1, 2, 3, 4)
    assert maps[wide].row == maps[twin].row, "maps of one size share strides"
    assert maps[image].border == (2, 0, 0, 0)
    assert maps[small].border == (0, 0, 0, 0)
    assert arena[maps[wide].corner(1, 2).origin] == 0
    assert maps[wide].corner(1, 2).origin == maps[wide].origin - maps[wide].row - 2 * LANES


def test_blocked_views_have_blocks_first():
    builder = ArenaBuilder()
    index = builder.declare("map", 3, 4, 2, 1.0)
    maps, elements = builder.finish()
    arena = aligned_zeros(elements)
    view = maps[index].view(arena)
    assert view.shape == (3, 4, 2, 16)
    view[2, 3, 1, 15] = 7
    place = maps[index].layout
    assert arena[place.origin + 2 * place.plane + 3 * place.row + 1 * place.pixel + 15] == 7


def test_alignment():
    for size in (1, 15, 16, 1000):
        assert aligned_zeros(size).ctypes.data % 64 == 0
        assert aligned_zeros(size).size == size
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    copy = aligned_copy(source)
    assert copy.ctypes.data % 64 == 0
    assert not copy.flags.writeable
    assert copy.tolist() == [0, 1, 2, 3, 4, 5]
