"""Maps get places that do not overlap, with borders as wide as asked."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cache.arena import LANES, ArenaBuilder, aligned_copy, aligned_zeros


def test_maps_do_not_overlap_and_borders_are_as_wide_as_asked():
    builder = ArenaBuilder()
    image = builder.declare("image", 0, 6, 5, 1.0, 3)
    wide = builder.declare("wide", 2, 6, 5, 1.0)
    twin = builder.declare("twin", 1, 6, 5, 1.0)
    alone = builder.declare("alone", 1, 6, 5, 1.0)
    builder.require_border(wide, (1, 2, 3, 0))
    builder.require_border(wide, (0, 0, 0, 4))
    builder.require_border(image, (2, 0, 0, 0))
    builder.join([wide, twin])
    maps, elements = builder.finish()
    arena = aligned_zeros(elements)
    for number, info in enumerate(maps, start=1):
        view = info.view(arena)
        assert not view.any(), "a map overlaps one written before"
        view[:] = number
    assert maps[wide].border == (1, 2, 3, 4)
    assert (maps[image].border, maps[twin].border) == ((2, 0, 0, 0), (0, 0, 0, 0))
    assert maps[wide].row == maps[twin].row == (5 + 4) * LANES, "maps that are read together have rows of one length"
    assert maps[alone].row == 5 * LANES, "a map that nobody reads past its edge has no border"
    assert maps[wide].corner(1, 2).origin == maps[wide].origin - maps[wide].row - 2 * LANES


def test_zeros_serve_both_sides():
    builder = ArenaBuilder()
    for name in ("a", "b"):
        builder.require_border(builder.declare(name, 2, 8, 8, 1.0), (1, 1, 1, 1))
    maps, elements = builder.finish()
    with_own_borders = 2 * 2 * 10 * 10 * LANES
    # Eight rows with one pixel between two; a row and a pixel between two blocks.
    assert [m.plane for m in maps] == [(8 * 9 - 1 + 9 + 1) * LANES] * 2
    assert elements < 0.86 * with_own_borders


def test_blocks_are_never_an_even_number_of_cache_lines_apart():
    builder = ArenaBuilder()
    builder.declare("a", 2, 40, 40, 1.0)
    (info,), _ = builder.finish()
    assert info.plane == (40 * 40 + 1) * LANES


sizes = st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5))
borders = st.tuples(*[st.integers(0, 4)] * 4)


@given(st.lists(st.tuples(sizes, borders), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_every_border_holds_zeros_when_all_maps_are_full(given_maps, random):
    builder = ArenaBuilder()
    for number, ((blocks, height, width), border) in enumerate(given_maps):
        builder.require_border(builder.declare(str(number), blocks, height, width, 1.0, LANES if blocks else 3), border)
    for first in range(len(given_maps)):
        second = random.randrange(len(given_maps))
        if given_maps[first][0][1:] == given_maps[second][0][1:] and random.random() < 0.5:
            builder.join([first, second])
    maps, elements = builder.finish()
    arena = aligned_zeros(elements)
    for info in maps:
        info.view(arena)[...] = 1 + info.index
    for info in maps:
        assert (info.view(arena) == 1 + info.index).all(), "written over by another map"
        assert info.origin % LANES == 0, "a map begins on a cache line"
        top, left, bottom, right = info.border
        for block in range(max(info.blocks, 1)):
            origin = info.origin + block * info.plane
            for y in range(-top, info.height + bottom):
                start = origin + y * info.row - left * info.pixel
                assert start >= 0, "reads before the arena"
                line = arena[start : start + (left + info.width + right) * info.pixel].reshape(-1, info.pixel)
                assert len(line) == left + info.width + right, "reads past the arena"
                if 0 <= y < info.height:
                    line = np.concatenate([line[:left], line[left + info.width :]])
                assert not line.any(), "a border holds a neighbour's values"


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
