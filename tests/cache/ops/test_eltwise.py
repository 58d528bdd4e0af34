"""Sums, products, maxima of two maps whose channels lie differently, and of a map and a vector."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache.graph import Node
from cache.ops.eltwise import supports
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights

OPS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Max": "max", "Min": "min"}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("channels", [3, 16, 21])
def test_two_maps(op, channels):
    nodes = [node("Conv", "x w", "l"), node("Sigmoid", "l", "a"), node("Conv", "x v", "n"), node("Relu", "n", "b")]
    nodes += [node(op, "a b", "m"), node("Relu", "m", "y")]
    constants = {"w": weights(channels, 5, 1, 1), "v": weights(channels, 5, 1, 1, seed=2)}
    plan = check_engine(build(nodes, constants, shape=(1, 5, 9, 8)), (1, 5, 9, 8), OPS[op])
    assert len(plan.steps) == 3


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("order", ["x g", "g x"])
def test_a_vector_on_every_pixel(op, order):
    nodes = [node("GlobalAveragePool", "x", "g"), node(op, order, "y")]
    check_engine(build(nodes, shape=(1, 21, 9, 8)), (1, 21, 9, 8), OPS[op])


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_map_of_one_pixel_with_another(op):
    nodes = [node("GlobalAveragePool", "x", "g"), node("GlobalMaxPool", "x", "h"), node(op, "g h", "y")]
    check_engine(build(nodes, shape=(1, 21, 3, 4)), (1, 21, 3, 4), OPS[op])


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_lanes_that_differ_are_packed(op):
    """One operand is a concatenation of 5 and 12 channels, each in a map of its own; the other one map of 17."""
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "x v", "b"),
        node("Concat", "a b", "c", axis=1),
        node("Conv", "x u", "d"),
        node(op, "d c", "y"),
    ]
    constants = {"w": weights(5, 3, 1, 1), "v": weights(12, 3, 1, 1), "u": weights(17, 3, 1, 1)}
    plan = check_engine(build(nodes, constants, shape=(1, 3, 9, 8)), (1, 3, 9, 8), OPS[op])
    assert "pack" in [s.step.op for s in plan.steps]


@pytest.mark.parametrize("channels", [3, 4, 7])
def test_the_image_with_features(channels):
    nodes = [node("Conv", "x w", "l"), node("Relu", "l", "a"), node("Add", "a x", "m"), node("Sigmoid", "m", "y")]
    data = build(nodes, {"w": weights(channels, channels, 1, 1)}, shape=(1, channels, 9, 8))
    check_engine(data, (1, channels, 9, 8), "add")


def test_a_map_with_itself():
    data = build([node("Mul", "x x", "y")], shape=(1, 6, 5, 5))
    check_engine(data, (1, 6, 5, 5), "mul")


def test_supports():
    graph = imported(build([node("Mul", "x x", "y")]), (1, 4, 10, 12))
    (found,) = graph.nodes
    assert supports(graph, found) is None
    odd = Node("n", "add", ("x", "constant"), ("z",), {})
    with_constant = replace(graph, constants={"constant": weights(1, 4, 10, 12)})
    assert supports(with_constant, odd) == "one of the operands is a constant that is no value per channel"
