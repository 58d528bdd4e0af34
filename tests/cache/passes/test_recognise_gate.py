import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops

NUMBERS = {
    "three": np.float32(3),
    "six": np.float32(6),
    "zero": np.float32(0),
    "sixth": np.float32(1 / 6),
    "ten": np.float32(10),
}
LIFT = [node("Add", "x three", "a"), node("Clip", "a zero six", "g")]


def kinds(data: bytes) -> list[str]:
    graph = check(data)
    assert set(ops(graph)) == {"activate"}
    return [item.activation.kind for item in graph.nodes]


@pytest.mark.parametrize("inputs", ["x s", "s x"])
def test_silu(inputs: str) -> None:
    assert kinds(build([node("Sigmoid", "x", "s"), node("Mul", inputs, "y")])) == ["silu"]


@pytest.mark.parametrize("inputs", ["x s", "s x"])
def test_hard_swish_from_hard_sigmoid(inputs: str) -> None:
    nodes = [node("HardSigmoid", "x", "s", alpha=1 / 6, beta=0.5), node("Mul", inputs, "y")]
    assert kinds(build(nodes)) == ["hard_swish"]


def test_other_hard_sigmoid_gates_stay() -> None:
    nodes = [node("HardSigmoid", "x", "s", alpha=0.2, beta=0.5), node("Mul", "x s", "y")]
    assert ops(check(build(nodes))) == ["activate", "mul"]


@pytest.mark.parametrize("scale", [node("Div", "g six", "s"), node("Mul", "g sixth", "s"), node("Mul", "sixth g", "s")])
def test_hard_sigmoid_written_out(scale: object) -> None:
    data = build([*LIFT, scale, node("Relu", "s", "y")], NUMBERS)  # type: ignore[list-item]
    assert kinds(data) == ["hard_sigmoid", "relu"]


@pytest.mark.parametrize("inputs", ["x s", "s x"])
def test_hard_swish_scaled_before_the_product(inputs: str) -> None:
    assert kinds(build([*LIFT, node("Div", "g six", "s"), node("Mul", inputs, "y")], NUMBERS)) == ["hard_swish"]


@pytest.mark.parametrize("inputs", ["x g", "g x"])
def test_hard_swish_scaled_after_the_product(inputs: str) -> None:
    assert kinds(build([*LIFT, node("Mul", inputs, "p"), node("Div", "p six", "y")], NUMBERS)) == ["hard_swish"]


def test_another_scale_after_the_product_stays_as_an_affine() -> None:
    graph = check(build([*LIFT, node("Mul", "x g", "p"), node("Div", "p ten", "y")], NUMBERS))
    assert ops(graph) == ["activate", "affine"]
    np.testing.assert_allclose(graph.nodes[1].attrs["scale"], 0.6, rtol=1e-6)


def test_a_gate_that_is_used_elsewhere_stays() -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "x s", "m"), node("Add", "m s", "y")]
    assert ops(check(build(nodes))) == ["activate", "mul", "add"]


def test_a_gate_of_another_map_stays() -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Sigmoid", "p", "s"), node("Mul", "x s", "y")]
    assert ops(check(build(nodes))) == ["global_avg_pool", "activate", "mul"]
