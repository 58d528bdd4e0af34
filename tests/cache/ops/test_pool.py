"""Maximum and average pooling: clipped windows, ceil_mode, padding that counts or does not."""

from __future__ import annotations

import pytest

from cache.ops.pool import average_pooling, supports
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node

WINDOWS = {
    "plain": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "asymmetric pads": {"kernel_shape": [3, 4], "pads": [2, 0, 1, 3], "strides": [1, 2]},
    "dilations": {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 2, 1]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil and pads": {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 1, 1, 0], "ceil_mode": 1},
    "same": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "large, as SPP has it": {"kernel_shape": [9, 9], "pads": [4, 4, 4, 4]},
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("channels", [3, 16, 21])
def test_maximum(window, channels):
    data = build([node("MaxPool", "x", "y", **WINDOWS[window])], shape=(1, channels, 14, 17), opset=12)
    plan = check_engine(data, (1, channels, 14, 17), "max_pool", tolerance=0)
    assert not plan.steps[-1].step.tested, "it moves values, and passes every change on"


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("channels", [3, 21])
def test_average(window, include, channels):
    nodes = [node("AveragePool", "x", "y", count_include_pad=include, **WINDOWS[window])]
    plan = check_engine(build(nodes, shape=(1, channels, 14, 17), opset=19), (1, channels, 14, 17), "avg_pool")
    step = plan.steps[-1].step
    assert step.method.entry is average_pooling
    assert step.method.words[-1] == include


def test_supports():
    graph = imported(build([node("MaxPool", "x", "y", kernel_shape=[2, 2])]), (1, 4, 10, 12))
    assert supports(graph, graph.nodes[0]) is None
