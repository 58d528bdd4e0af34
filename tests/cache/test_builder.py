"""Values and maps of a growing plan: packing only what must be packed, addresses when every map has its place."""

from __future__ import annotations

import numpy as np
import pytest

from cache.builder import Builder, activation, block_offsets, element_offsets, lanes, whole_reads
from cache.graph import Activation, Graph, TensorType
from cache.ops.pack import packing
from cache.values import concatenate
from kernels.constants import CLIP, HARD_SWISH, IDENTITY, PRELU


def builder(*shapes: tuple[str, int]) -> Builder:
    """A builder with tensors of 6 x 5 pixels."""
    types = {name: TensorType(np.dtype(np.float32), (1, channels, 6, 5)) for name, channels in shapes}
    return Builder(Graph("made", (), (), (), {}, types), 12)


def test_shape_and_new_value():
    made = builder(("a", 20))
    assert made.shape("a") == (20, 6, 5)
    index, value = made.new_value("a", 20, 6, 5)
    assert (index, len(value), value.height, value.width) == (0, 20, 6, 5)
    assert made.values["a"] is value
    maps, _ = made.arena.finish()
    assert (maps[0].blocks, maps[0].stride) == (2, 2.0)


def test_mirror_keeps_lanes():
    made = builder(("a", 20), ("b", 3))
    made.new_value("a", 20, 6, 5)
    view = made.values["a"].select(np.array([17, 4, 19], np.int64))
    index = made.mirror("b", view.blocks(), 3, 3)
    assert made.values["b"].channels.tolist() == [1, 16 + 4, 3]
    assert set(made.values["b"].maps.tolist()) == {index}


def test_a_whole_value_is_read_as_it_is():
    made = builder(("a", 20))
    _, value = made.new_value("a", 20, 6, 5)
    found, blocks = made.dense_blocks("a")
    assert found is value
    assert (len(blocks), made.steps) == (2, [])


def test_repeated_channels_are_packed():
    made = builder(("a", 3))
    made.new_value("a", 3, 6, 5)
    made.values["twice"] = made.values["a"].select(np.array([0, 0, 2], np.int64))
    value, blocks = made.dense_blocks("twice")
    assert blocks.is_injective
    assert len(made.steps) == 1
    maps, _ = made.arena.finish()
    step = made.steps[0](maps)
    assert step.method.entry is packing
    assert (step.target, step.tested, step.channels) == (1, False, 3)
    source = maps[0].origin
    assert step.method.kept[0].tolist() == [source, source, source + 2, *[-1] * 13]
    assert value.channels.tolist() == [0, 1, 2]


def test_an_interleaved_image_is_packed_for_readers_of_blocks():
    made = builder(("image", 3))
    index = made.arena.declare("image", 0, 6, 5, 1.0, 3)
    _, value = made.new_value("other", 3, 6, 5)
    image = type(value)(6, 5, np.full(3, index, np.int64), np.arange(3, dtype=np.int64))
    made.values["image"] = image
    assert made.is_interleaved(image)
    assert not made.is_interleaved(value)
    packed, _ = made.dense_blocks("image")
    assert not made.is_interleaved(packed)
    maps, _ = made.arena.finish()
    assert element_offsets(maps, image).tolist() == [maps[index].origin + c for c in range(3)]


def test_offsets_over_several_maps():
    made = builder(("a", 20), ("b", 5))
    made.new_value("a", 20, 6, 5)
    made.new_value("b", 5, 6, 5)
    both = concatenate([made.values["a"], made.values["b"]])
    made.border(both, (1, 2, 3, 4))
    maps, _ = made.arena.finish()
    assert maps[0].border == maps[1].border == (1, 2, 3, 4)
    found = element_offsets(maps, both)
    assert found[17] == maps[0].origin + maps[0].plane + 1
    assert found[22] == maps[1].origin + 2
    first, offsets = block_offsets(maps, both.blocks())
    assert first is maps[0]
    assert offsets.tolist() == [0, maps[0].plane, maps[1].origin - maps[0].origin]
    assert [read.map for read in whole_reads(both)] == [0, 1]


def test_lanes():
    found = lanes(np.array([3, 17], np.int64), 2, np.array([5.0, 7.0]), fill=-1)
    assert (found[3], found[17], found.dtype, found.size) == (5, 7, np.float32, 32)
    assert (np.delete(found, [3, 17]) == -1).all()


@pytest.mark.parametrize(
    ("given", "kind", "alpha", "beta"),
    [
        (Activation(), IDENTITY, 0.0, 0.0),
        (Activation("clip", -1, 2), CLIP, -1.0, 2.0),
        (Activation("hard_swish"), HARD_SWISH, 1 / 6, 0.5),
    ],
)
def test_activations(given, kind, alpha, beta):
    act, slope = activation(given, np.array([0, 1], np.int64), 1)
    assert (act.kind, act.alpha, act.beta) == (kind, alpha, beta)
    assert not slope.any()


def test_slopes_lie_where_the_channels_lie():
    position = np.array([18, 2], np.int64)
    act, slope = activation(Activation("leaky_relu", 0.5), position, 2)
    assert (act.kind, slope.tolist()) == (PRELU, [0.5] * 32)
    act, slope = activation(Activation("prelu", slope=np.array([3, 4], np.float32)), position, 2)
    assert (act.kind, slope[18], slope[2], slope.sum()) == (PRELU, 3, 4, 7)
