"""Softmax over channels: as ONNX Runtime computes it, bit for bit a full recompute, from any view."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.softmax import supports
from cache.plan import Plan
from cache.session import Session
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights


@pytest.mark.parametrize("channels", [1, 3, 16, 21, 80])
def test_softmax(channels):
    shape = (1, channels, 9, 8)
    plan = check_engine(build([node("Softmax", "x", "y", axis=1)], shape=shape, opset=13), shape, "softmax")
    assert not plan.tails


def test_between_transposes_and_joined_with_others():
    nodes = [
        node("Conv", "x w", "c"), node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Softmax", "t", "s", axis=-1),
        node("Transpose", "s", "b", perm=[0, 3, 1, 2]), node("Concat", "x b", "y", axis=1),
    ]  # fmt: skip
    plan = check_engine(build(nodes, {"w": weights(21, 5, 1, 1)}, shape=(1, 5, 7, 6), opset=13), (1, 5, 7, 6), "conv")
    assert [s.step.op for s in plan.steps if s.step.op != "pack"] == ["conv", "softmax"]
    assert not plan.tails


def test_values_far_apart():
    shape = (1, 4, 2, 3)
    plan = Plan.compile(load_model(build([node("Softmax", "x", "y", axis=1)], shape=shape, opset=13)))
    x = np.zeros(shape, np.float32)
    x[0, :, 0, 0] = 3e38, -3e38, 0, 1
    x[0, :, 0, 1] = -1e30, -1e30, -1e30, -2e30
    x[0, :, 0, 2] = 1000, 999, 900, -1000
    found = Session(plan).push_tensor(x).outputs["y"][0, :, 0]
    np.testing.assert_allclose(found[:, 0], [1, 0, 0, 0], atol=1e-30)
    np.testing.assert_allclose(found[:, 1], [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(found[:, 2], [1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1)), 0, 0], atol=1e-7)


def test_supports():
    graph = imported(build([node("Softmax", "x", "y", axis=1)], opset=13), (1, 4, 10, 12))
    assert supports(graph, graph.nodes[0]) is None
