"""Convolution: any window, groups that fit no block, from the image and from views of several maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.graph import TensorType
from cache.ops.conv import convolution, depthwise_convolution, supports
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights

WINDOWS = {
    "asymmetric pads": (3, 3, {"pads": [2, 0, 1, 3]}),
    "dilations": (3, 2, {"dilations": [2, 3], "pads": [1, 2, 3, 0]}),
    "strides": (5, 4, {"strides": [2, 3], "pads": [2, 1, 2, 1]}),
    "row": (1, 7, {"pads": [0, 3, 0, 3]}),
    "column": (5, 1, {"strides": [2, 1]}),
    "pointwise": (1, 1, {"strides": [2, 2]}),
    "pads wider than the window": (2, 2, {"pads": [3, 4, 5, 2]}),
    "same": (4, 3, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16, 21])
def test_windows_of_an_image_and_of_a_map(window, channels):
    height, width, attrs = WINDOWS[window]
    nodes = [
        node("Conv", "x w b", "m", "first", **attrs),
        node("Relu", "m", "r"),
        node("Conv", "r v", "y", "second", **attrs),
    ]
    constants = {"w": weights(19, channels, height, width), "b": weights(19), "v": weights(7, 19, height, width) / 9}
    plan = check_engine(build(nodes, constants, shape=(1, channels, 23, 26)), (1, channels, 23, 26), "conv", steps=2)
    assert plan.maps[0].is_interleaved == (channels <= 4)
    assert plan.total_macs == sum(
        np.prod(plan.graph.types[name].shape) * depth * height * width for name, depth in (("r", channels), ("y", 19))
    )


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"), [(2, 6, 4), (3, 21, 9), (5, 20, 35), (4, 64, 72), (2, 34, 66)]
)
def test_groups_that_are_no_multiple_of_a_block(groups, inputs, outputs):
    data = build(
        [node("Conv", "x w b", "y", group=groups, pads=[1, 1, 1, 1])],
        {"w": weights(outputs, inputs // groups, 3, 3), "b": weights(outputs)},
        shape=(1, inputs, 9, 11),
    )
    check_engine(data, (1, inputs, 9, 11), "conv")


@pytest.mark.parametrize("channels", [2, 3, 7, 16, 37])
def test_depthwise(channels):
    data = build(
        [node("Conv", "x w b", "y", group=channels, pads=[2, 1, 0, 2], strides=[2, 1], dilations=[1, 2])],
        {"w": weights(channels, 1, 3, 3), "b": weights(channels)},
        shape=(1, channels, 13, 12),
    )
    plan = check_engine(data, (1, channels, 13, 12), "conv")
    assert plan.steps[-1].step.method.entry is depthwise_convolution
    assert [s.step.op for s in plan.steps[:-1]] == (["pack"] if plan.maps[0].is_interleaved else [])


def test_a_multiplier_of_two_is_a_grouped_convolution():
    data = build([node("Conv", "x w", "y", group=5)], {"w": weights(10, 1, 3, 3)}, shape=(1, 5, 8, 8))
    assert check_engine(data, (1, 5, 8, 8), "conv").steps[-1].step.method.entry is convolution


@pytest.mark.parametrize("sizes", [(16, 16), (5, 20), (3, 2, 40)])
def test_a_concatenation_is_read_where_it_lies(sizes):
    nodes = [node("Conv", f"x w{i}", f"l{i}") for i in range(len(sizes))]
    nodes += [node("LeakyRelu", f"l{i}", f"m{i}", alpha=0.1 * i) for i in range(len(sizes))]  # each a map of its own
    nodes += [node("Concat", " ".join(f"m{i}" for i in range(len(sizes))), "c", axis=1), node("Conv", "c v", "y")]
    constants = {f"w{i}": weights(size, 3, 3, 3, seed=i) for i, size in enumerate(sizes)}
    constants["v"] = weights(18, sum(sizes), 2, 2)
    plan = check_engine(build(nodes, constants, shape=(1, 3, 10, 9)), (1, 3, 10, 9), "conv", steps=len(sizes) + 1)
    assert len(plan.steps) == len(sizes) + 1


def test_a_channel_that_is_used_twice_counts_twice():
    nodes = [node("Conv", "x w", "m"), node("Concat", "m m", "c", axis=1), node("Conv", "c v", "y")]
    data = build(nodes, {"w": weights(5, 3, 1, 1), "v": weights(4, 10, 3, 3)}, shape=(1, 3, 8, 8))
    check_engine(data, (1, 3, 8, 8), "conv", steps=2)


ACTIVATIONS = {
    "relu": [node("Relu", "m", "y")],
    "clip": [node("Clip", "m low high", "y")],
    "leaky": [node("LeakyRelu", "m", "y", alpha=0.2)],
    "prelu": [node("PRelu", "m slope", "y")],
    "silu": [node("Sigmoid", "m", "s"), node("Mul", "m s", "y")],
    "sigmoid": [node("Sigmoid", "m", "y")],
    "hard swish": [node("HardSwish", "m", "y")],
    "hard sigmoid": [node("HardSigmoid", "m", "y", alpha=0.3, beta=0.4)],
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("groups", [1, 18])
def test_activations_are_fused(kind, groups):
    constants = {"w": weights(18, 18 // groups, 3, 3), "b": weights(18), "slope": weights(18, 1, 1),
                 "low": np.float32(-0.5), "high": np.float32(0.75)}  # fmt: skip
    nodes = [node("Conv", "x w b", "m", group=groups), *ACTIVATIONS[kind]]
    plan = check_engine(build(nodes, constants, shape=(1, 18, 9, 9)), (1, 18, 9, 9), "conv")
    assert len(plan.steps) == 1


def test_supports():
    data = build([node("Conv", "x w b", "y")], {"w": weights(2, 4, 1, 1), "b": weights(2)})
    graph = imported(data, (1, 4, 10, 12))
    (conv,) = graph.nodes
    assert supports(graph, conv) is None
    weight = conv.inputs[1]
    double = replace(graph, constants={**graph.constants, weight: graph.constants[weight].astype(np.float64)})
    assert supports(double, conv) == "weights are float64, not float32"
    missing = {k: v for k, v in graph.constants.items() if k != weight}
    assert supports(replace(graph, constants=missing), conv) == "weights are computed, not constant"
    missing = {k: v for k, v in graph.constants.items() if k != conv.inputs[2]}
    types = {**graph.types, conv.inputs[2]: TensorType(np.dtype(np.float32), (2,))}
    assert supports(replace(graph, constants=missing, types=types), conv) == "weights are computed, not constant"
