"""Global pooling, and the vector it makes back on a map."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.global_pool import global_maximum, supports
from cache.plan import Plan
from cache.session import Session
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights

SPELLINGS = {
    "GlobalAveragePool": ("global_avg_pool", node("GlobalAveragePool", "x", "y")),
    "GlobalMaxPool": ("global_max_pool", node("GlobalMaxPool", "x", "y")),
    "ReduceMean": ("global_avg_pool", node("ReduceMean", "x", "y", axes=[2, 3], keepdims=1)),
    "ReduceMax": ("global_max_pool", node("ReduceMax", "x", "y", axes=[-1, -2], keepdims=1)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (1, 21, 1, 30), (1, 40, 12, 1)])
def test_against_onnxruntime(spelling, shape):
    op, made = SPELLINGS[spelling]
    check_engine(build([made], shape=shape), shape, op)


def test_squeeze_and_excite():
    nodes = [
        node("GlobalAveragePool", "x", "p"),
        node("Conv", "p w", "h"),
        node("Relu", "h", "r"),
        node("Conv", "r v", "g"),
        node("Sigmoid", "g", "s"),
        node("Mul", "x s", "y"),
    ]
    data = build(nodes, {"w": weights(5, 20, 1, 1), "v": weights(20, 5, 1, 1)}, shape=(1, 20, 9, 10))
    check_engine(data, (1, 20, 9, 10), "global_avg_pool")


def test_only_rows_that_were_written_are_read_again():
    plan = Plan.compile(load_model(build([node("GlobalMaxPool", "x", "y")], shape=(1, 5, 8, 8))))
    session = Session(plan, exact=True)
    x = weights(1, 5, 8, 8)
    session.push_tensor(x)
    x[0, :, 3, 3] = 9
    assert session.push_tensor(x).outputs["y"].max() == 9
    x[0, :, 3, 3] = -9
    np.testing.assert_array_equal(session.push_tensor(x).outputs["y"][0, :, 0, 0], x[0].max(axis=(1, 2)))
    (step,) = (s.step for s in plan.steps)
    assert step.method.entry is global_maximum
    assert step.method.words[5:8].tolist() == [1, 8, 8], "blocks, height and width"


def test_supports():
    graph = imported(build([node("GlobalMaxPool", "x", "y")]), (1, 4, 10, 12))
    assert supports(graph, graph.nodes[0]) is None
