"""The table of ops: every op of the normal form is in it, and says why it cannot be cached where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cache.ops
from cache import lowering
from cache.builder import Builder
from cache.graph import NORMAL_OPS, Node, TensorType
from tests.cache.engine_check import imported
from tests.cache.onnx_models import build, node, weights

SHAPE = (1, 4, 10, 12)


def test_every_op_of_the_normal_form_is_in_the_table():
    assert set(lowering.OPS) == set(NORMAL_OPS)


def test_every_file_of_an_op_is_used():
    shared = {"__init__", "copies", "pack", "separable", "slots"}
    files = {path.stem for path in Path(cache.ops.__file__).parent.glob("*.py")} - shared
    used = {supports.__module__.rpartition(".")[2] for supports, _ in lowering.OPS.values()}
    used |= {lower.__module__.rpartition(".")[2] for _, lower in lowering.OPS.values()}
    assert used == files


def test_an_op_that_nobody_caches():
    graph = imported(build([node("Relu", "x", "y")]), SHAPE)
    odd = Node("n", "onnx.Softmax", ("x",), ("z",), {})
    assert lowering.unsupported(graph, odd) == "Softmax is not an op the engine caches"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "the shape of 'y' is not known"),
        (TensorType(np.dtype(np.float32), (1, 4, 120)), "not a float32 feature map"),
        (TensorType(np.dtype(np.int64), SHAPE), "not a float32 feature map"),
        (TensorType(np.dtype(np.float32), (2, 4, 10, 12)), "not a float32 feature map"),
        (TensorType(np.dtype(np.float32), SHAPE), None),
    ],
)
def test_only_feature_maps_are_cached(found, reason):
    graph = imported(build([node("Relu", "x", "y")]), SHAPE)
    types = {name: known for name, known in graph.types.items() if name != "y"} | ({"y": found} if found else {})
    said = lowering.unsupported(replace(graph, types=types), graph.nodes[0])
    assert said is None if reason is None else said is not None and reason in said


def test_the_reason_of_the_op_itself_comes_through():
    graph = imported(build([node("Conv", "x w", "y")], {"w": weights(2, 4, 1, 1)}), SHAPE)
    double = {name: value.astype(np.float64) for name, value in graph.constants.items()}
    assert lowering.unsupported(graph, graph.nodes[0]) is None
    assert "float64" in str(lowering.unsupported(replace(graph, constants=double), graph.nodes[0]))


def test_lower_adds_the_step():
    graph = imported(build([node("Conv", "x w", "y")], {"w": weights(2, 4, 1, 1)}), SHAPE)
    made = Builder(graph, 10)
    made.new_value("x", 4, 10, 12)
    lowering.lower(graph.nodes[0], made)
    maps, _ = made.arena.finish()
    (step,) = (finish(maps) for finish in made.steps)
    assert (step.op, step.target, step.channels, step.macs) == ("conv", 1, 2, 10 * 12 * 8)
    assert [read.map for read in step.reads] == [0]
