import math

import numpy as np
import pytest

from cache.graph import Activation
from cache.normal_form.activations import clip_activation
from tests.cache.onnx_models import build, check, node, ops, weights


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (node("Relu", "x", "y"), "relu"),
        (node("LeakyRelu", "x", "y", alpha=0.2), "leaky_relu"),
        (node("LeakyRelu", "x", "y"), "leaky_relu"),
        (node("Sigmoid", "x", "y"), "sigmoid"),
        (node("HardSigmoid", "x", "y", alpha=0.3, beta=0.4), "hard_sigmoid"),
        (node("HardSigmoid", "x", "y"), "hard_sigmoid"),
        (node("HardSwish", "x", "y"), "hard_swish"),
    ],
)
def test_kinds(item: object, kind: str) -> None:
    graph = check(build([item]))  # type: ignore[list-item]
    assert ops(graph) == ["activate"]
    assert graph.nodes[0].activation.kind == kind


def test_clip_bounds_as_attributes() -> None:
    graph = check(build([node("Clip", "x", "y", min=-0.5, max=1.5)], opset=7))
    assert graph.nodes[0].activation == Activation("clip", -0.5, 1.5)
    graph = check(build([node("Clip", "x", "y", min=0.0)], opset=7))
    assert graph.nodes[0].activation == Activation("relu")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("x low high", Activation("clip", 0, 6)),
        ("x low", Activation("relu")),
        ("x - high", Activation("clip", -math.inf, 6)),
    ],
)
def test_clip_bounds_as_inputs(inputs: str, expected: Activation) -> None:
    constants = {"low": np.float32(0), "high": np.float32(6)}
    graph = check(build([node("Clip", inputs, "y")], constants, opset=13))
    assert graph.nodes[0].activation == expected


def test_clip_limits() -> None:
    limit = float(np.finfo(np.float32).max)
    assert clip_activation(-limit, limit) == Activation()
    assert clip_activation(1, 0) is None
    assert clip_activation(math.nan, 1) is None


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_prelu_per_channel(shape: tuple[int, ...]) -> None:
    graph = check(build([node("PRelu", "x s", "y")], {"s": weights(*shape)}))
    assert graph.nodes[0].activation.kind == "prelu"


def test_prelu_with_one_slope() -> None:
    graph = check(build([node("PRelu", "x s", "y")], {"s": weights(1)}))
    assert graph.nodes[0].activation.kind == "leaky_relu"


def test_prelu_along_the_width_stays_foreign() -> None:
    assert ops(check(build([node("PRelu", "x s", "y")], {"s": weights(12)}))) == ["onnx.PRelu"]


def test_other_functions_stay_foreign() -> None:
    assert ops(check(build([node("Tanh", "x", "y")]))) == ["onnx.Tanh"]


@pytest.mark.parametrize(
    "item",
    [node("Identity", "x", "i"), node("Cast", "x", "i", to=1), node("Dropout", "x", "i")],
)
def test_copies_vanish(item: object) -> None:
    graph = check(build([item, node("Relu", "i", "y")]))  # type: ignore[list-item]
    assert ops(graph) == ["activate"]


def test_dropout_of_old_opsets() -> None:
    assert ops(check(build([node("Dropout", "x", "i", ratio=0.3), node("Relu", "i", "y")], opset=7))) == ["activate"]


def test_dropout_told_not_to_train() -> None:
    nodes = [node("Dropout", "x r t", "i"), node("Relu", "i", "y")]
    assert ops(check(build(nodes, {"r": np.float32(0.5), "t": np.array(False)}))) == ["activate"]
