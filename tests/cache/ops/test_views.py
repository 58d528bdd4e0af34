"""Concat, split, gather and shuffle (views), slices and padding (copies), packing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.ops import concat, pad, select_channels, slice_spatial
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights


def used(plan) -> list[str]:
    return [s.step.op for s in plan.steps]


def test_concat_moves_nothing():
    nodes = [node("Conv", "x w", "l"), node("Relu", "l", "a"), node("Conv", "x v", "b")]
    nodes.append(node("Concat", "a b", "y", axis=1))
    data = build(nodes, {"w": weights(5, 3, 1, 1), "v": weights(20, 3, 1, 1)}, shape=(1, 3, 9, 8))
    assert used(check_engine(data, (1, 3, 9, 8), "conv", steps=2)) == ["conv", "conv"]


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("order", ["x a", "a x"])
def test_concat_of_the_image_with_features(channels, order):
    nodes = [node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Concat", order, "c", axis=1), node("Conv", "c v", "y")]
    constants = {"w": weights(6, channels, 3, 3), "v": weights(7, channels + 6, 3, 3)}
    check_engine(build(nodes, constants, shape=(1, channels, 9, 8)), (1, channels, 9, 8), "conv", steps=2)


def test_a_whole_shuffle_costs_no_step():
    nodes = [
        node("Conv", "x w", "a"),
        node("Reshape", "a to", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "t back", "s"),
        node("Conv", "s v", "y", pads=[1, 1, 1, 1]),
    ]
    constants = {"w": weights(24, 3, 1, 1), "v": weights(9, 24, 3, 3), "to": np.array([1, 2, 12, 8, 9]),
                 "back": np.array([1, 24, 8, 9])}  # fmt: skip
    plan = check_engine(build(nodes, constants, shape=(1, 3, 8, 9)), (1, 3, 8, 9), "conv", steps=2)
    assert used(plan) == ["conv", "conv"]


def test_a_scattered_view_is_packed_once_for_its_reader():
    """Every third channel of 96, depthwise: the reader needs its channels side by side."""
    nodes = [
        node("Conv", "x w", "a"),
        node("Gather", "a index", "g", axis=1),
        node("Conv", "g v", "y", group=32, pads=[1, 1, 1, 1]),
    ]
    constants = {"w": weights(96, 3, 1, 1), "v": weights(32, 1, 3, 3), "index": np.arange(0, 96, 3)[::-1].copy()}
    plan = check_engine(build(nodes, constants, shape=(1, 3, 8, 9)), (1, 3, 8, 9), "conv", steps=2)
    assert used(plan) == ["conv", "pack", "conv"]


def test_readers_of_a_scattered_view_share_one_copy():
    nodes = [
        node("Conv", "x w", "a"),
        node("Gather", "a index", "g", axis=1),
        node("Conv", "g v", "p", group=32, pads=[1, 1, 1, 1]),
        node("MaxPool", "g", "q", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", "g u", "r"),
        node("Concat", "p q r", "y", axis=1),
    ]
    constants = {"w": weights(96, 3, 1, 1), "v": weights(32, 1, 3, 3), "u": weights(8, 32, 1, 1),
                 "index": np.arange(0, 96, 3)[::-1].copy()}  # fmt: skip
    plan = check_engine(build(nodes, constants, shape=(1, 3, 8, 9)), (1, 3, 8, 9), "conv", steps=3)
    assert sorted(used(plan)) == ["conv", "conv", "conv", "max_pool", "pack"]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_convolution_reads_a_scattered_view_where_it_lies(groups):
    """Every fourth channel of 96 and every third of 40, in an order of their own, from two maps."""
    order = np.random.default_rng(5).permutation(24 + 12)
    picked = np.concatenate([np.arange(0, 96, 4), 96 + np.arange(0, 36, 3)])[order]
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "x z", "b", pads=[1, 1, 1, 1]),
        node("Concat", "a b", "c", axis=1),
        node("Gather", "c index", "g", axis=1),
        node("Conv", "g v", "y", group=groups, pads=[1, 0, 2, 1], strides=[1, 2]),
    ]
    constants = {"w": weights(96, 3, 1, 1), "z": weights(40, 3, 3, 3), "v": weights(12, 36 // groups, 3, 3),
                 "index": picked}  # fmt: skip
    plan = check_engine(build(nodes, constants, shape=(1, 3, 8, 9)), (1, 3, 8, 9), "conv", steps=3)
    assert used(plan) == ["conv", "conv", "conv"]
    taps = plan.steps[-1].step.method.kept[0]
    assert taps.size == 36 * 9, "one tap for each channel and position of the window: idle lanes are not read"


def test_split_and_swapped_halves():
    nodes = [node("Conv", "x w", "a"), node("Split", "a sizes", "p q", axis=1), node("Concat", "q p", "y", axis=1)]
    constants = {"w": weights(21, 3, 1, 1), "sizes": np.array([4, 17])}
    assert used(check_engine(build(nodes, constants, shape=(1, 3, 8, 9)), (1, 3, 8, 9), "conv")) == ["conv"]


def test_a_gather_that_repeats_channels():
    nodes = [node("Gather", "x index", "g", axis=1), node("Relu", "g", "y")]
    data = build(nodes, {"index": np.array([2, 0, 2, -1, 1, 1])}, shape=(1, 3, 6, 7))
    check_engine(data, (1, 3, 6, 7), "activate")


@pytest.mark.parametrize("channels", [3, 18])
def test_slices(channels):
    constants = {"starts": np.array([1, -7]), "ends": np.array([9, 2**31]), "axes": np.array([2, 3]),
                 "steps": np.array([3, 2])}  # fmt: skip
    data = build([node("Slice", "x starts ends axes steps", "y")], constants, shape=(1, channels, 10, 11))
    plan = check_engine(data, (1, channels, 10, 11), "slice_spatial", tolerance=0)
    assert plan.graph.types["y"].shape == (1, channels, 3, 4)


@pytest.mark.parametrize("channels", [3, 18])
def test_padding(channels):
    data = build(
        [node("Pad", "x pads", "p"), node("MaxPool", "p", "y", kernel_shape=[2, 2])],
        {"pads": np.array([0, 0, 2, 0, 0, 0, 1, 3])},
        shape=(1, channels, 6, 5),
    )
    check_engine(data, (1, channels, 6, 5), "pad", tolerance=0)


def test_space_to_depth():
    data = build([node("SpaceToDepth", "x", "y", blocksize=2)], shape=(1, 5, 8, 6))
    check_engine(data, (1, 5, 8, 6), "slice_spatial", tolerance=0, steps=4)


def test_padded_positions():
    assert pad.padded(6, 3, 2).tolist() == [-1, -1, 0, 1, 2, -1]


def test_supports():
    nodes = [node("Concat", "x x", "c", axis=1), node("Slice", "c starts ends axes", "s"), node("Pad", "s pads", "y")]
    constants = {"starts": np.array([1]), "ends": np.array([5]), "axes": np.array([2]),
                 "pads": np.array([0, 0, 0, 1, 0, 0, 0, 1])}  # fmt: skip
    graph = imported(build(nodes, constants), (1, 4, 10, 12))
    by_op = {item.op: item for item in graph.nodes}
    assert concat.supports(graph, by_op["concat"]) is None
    assert slice_spatial.supports(graph, by_op["slice_spatial"]) is None
    assert pad.supports(graph, by_op["pad"]) is None
    with_constant = replace(graph, constants={**graph.constants, "k": weights(1, 4, 10, 12)})
    odd = replace(by_op["concat"], inputs=("x", "k"))
    assert concat.supports(with_constant, odd) == "one of the parts is a constant"
    chosen = imported(build([node("Gather", "x i", "y", axis=1)], {"i": np.array([1, 0])}), (1, 4, 10, 12))
    assert select_channels.supports(chosen, chosen.nodes[0]) is None
