import pytest

from tests.cache.onnx_models import build, check, node, ops, weights

W = {"w": weights(4, 4, 1, 1)}


@pytest.mark.parametrize(
    "made",
    [
        node("Conv", "x w", "c"),
        node("ConvTranspose", "x w", "c"),
        node("Add", "x x", "c"),
        node("Mul", "x x", "c"),
    ],
)
def test_into_its_producer(made: object) -> None:
    graph = check(build([made, node("LeakyRelu", "c", "y", alpha=0.1)], W))  # type: ignore[list-item]
    assert len(graph.nodes) == 1
    assert graph.nodes[0].activation.kind == "leaky_relu"
    assert graph.nodes[0].output == "y"


def test_prelu_is_fused_with_its_slopes() -> None:
    graph = check(build([node("Conv", "x w", "c"), node("PRelu", "c s", "y")], {**W, "s": weights(4, 1, 1)}))
    assert ops(graph) == ["conv"]
    slope = graph.nodes[0].activation.slope
    assert slope is not None
    assert slope.shape == (4,)


def test_not_into_a_pool() -> None:
    nodes = [node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Sigmoid", "p", "y")]
    assert ops(check(build(nodes))) == ["max_pool", "activate"]


def test_not_through_a_shared_tensor() -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Add", "c r", "y")]
    assert ops(check(build(nodes, W))) == ["conv", "activate", "add"]


def test_not_through_an_output() -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    assert ops(check(build(nodes, W, outputs=["c", "y"]))) == ["conv", "activate"]


def test_two_activations_are_two_ops() -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Sigmoid", "r", "y")]
    assert ops(check(build(nodes, W))) == ["conv", "activate"]
