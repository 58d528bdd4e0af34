import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops, weights

BRANCH = node("Relu", "x", "r")


@pytest.mark.parametrize(
    ("op", "normal"),
    [("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Max", "max"), ("Min", "min"), ("Sum", "add")],
)
def test_two_maps(op: str, normal: str) -> None:
    assert ops(check(build([BRANCH, node(op, "x r", "y")]))) == ["activate", normal]


def test_division_of_maps_stays_foreign() -> None:
    nodes = [BRANCH, node("Add", "r c", "s"), node("Div", "x s", "y")]
    assert ops(check(build(nodes, {"c": np.float32(1)}))) == ["activate", "affine", "onnx.Div"]


def test_one_map_twice() -> None:
    assert ops(check(build([node("Add", "x x", "y")]))) == ["add"]


@pytest.mark.parametrize("inputs", ["x p", "p x"])
@pytest.mark.parametrize("op", ["Add", "Mul", "Max"])
def test_pooled_vector(op: str, inputs: str) -> None:
    graph = check(build([node("GlobalAveragePool", "x", "p"), node(op, inputs, "y")]))
    assert graph.nodes[-1].inputs == ("x", "p")


def test_sub_keeps_its_order() -> None:
    pool = node("GlobalAveragePool", "x", "p")
    assert ops(check(build([pool, node("Sub", "x p", "y")])))[-1] == "sub"
    assert ops(check(build([pool, node("Sub", "p x", "y")])))[-1] == "onnx.Sub"


def test_spatial_broadcast_stays_foreign() -> None:
    nodes = [node("ReduceMean", "x", "m", axes=[1]), node("Mul", "x m", "y")]
    assert ops(check(build(nodes))) == ["onnx.ReduceMean", "onnx.Mul"]


@pytest.mark.parametrize("op", ["Sum", "Max", "Min"])
def test_chain_of_many(op: str) -> None:
    nodes = [BRANCH, node("Sigmoid", "x", "s"), node(op, "x r s", "y")]
    assert len(ops(check(build(nodes)))) == 4


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("inputs", ["x c", "c x"])
def test_constants_per_channel(op: str, inputs: str, shape: tuple[int, ...]) -> None:
    graph = check(build([node(op, inputs, "y")], {"c": weights(*shape) + 3}))
    assert ops(graph) == (["onnx.Div"] if (op, inputs) == ("Div", "c x") else ["affine"])


@pytest.mark.parametrize("shape", [(12,), (10, 1), (1, 4, 10, 12), (1, 1, 10, 12)])
def test_constants_along_the_map_stay_foreign(shape: tuple[int, ...]) -> None:
    assert ops(check(build([node("Add", "x c", "y")], {"c": weights(*shape)}))) == ["onnx.Add"]


def test_division_by_zero_stays_foreign() -> None:
    nodes = [node("Div", "x c", "d"), node("Clip", "d", "y", min=-1.0, max=1.0)]
    assert "onnx.Div" in ops(check(build(nodes, {"c": np.float32([0, 1, 2, 3]).reshape(4, 1, 1)}, opset=10)))


def test_max_with_a_number_is_a_clip() -> None:
    graph = check(build([node("Max", "x c", "m"), node("Min", "m d", "y")], {"c": weights(1), "d": np.float32(2)}))
    assert [item.activation.kind for item in graph.nodes] == ["clip", "clip"]
    graph = check(build([node("Max", "x c", "y")], {"c": np.float32([0])}))
    assert graph.nodes[0].activation.kind == "relu"


def test_negation() -> None:
    assert ops(check(build([node("Neg", "x", "y")]))) == ["affine"]
