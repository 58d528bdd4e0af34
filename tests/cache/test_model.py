import numpy as np
import pytest

from cache.model import ModelError, ancestors, image_input, native_shape
from cache.onnx_import import load_model
from tests.cache.onnx_models import build, node, weights

RELU = [node("Relu", "x", "y")]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ((1, 3, 32, 64), (1, 3, 32, 64)),
        (("n", 3, 32, 64), (1, 3, 32, 64)),
        ((1, 3, None, 64), None),
        ((2, 3, 32, 64), None),
        ((1, 3, 32), None),
        (None, None),
    ],
)
def test_native_shape(declared: tuple[int | str | None, ...] | None, expected: object) -> None:
    assert native_shape(load_model(build(RELU, shape=declared))) == expected


def test_inputs_leave_out_weights() -> None:
    model = load_model(build([node("Mul", "x k", "y")], {"k": weights(1)}))
    assert [(item.name, item.dtype, item.shape) for item in model.inputs] == [
        ("x", np.dtype(np.float32), (1, 4, 10, 12))
    ]


def test_image_input() -> None:
    model = load_model(build(RELU))
    assert image_input(model, ["x"]).name == "x"
    with pytest.raises(ModelError, match="one input"):
        image_input(model, [])


def test_ancestors() -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("Sigmoid", "a", "b"),
        node("Tanh", "x", "c"),
        node("Add", "b c", "y"),
    ]
    source = load_model(build(nodes)).source
    assert ancestors(source, ["b"], []) == ([0, 1], ["x"])
    assert ancestors(source, ["y"], ["b", "c"]) == ([3], [])
    assert ancestors(source, ["y"], ["a"]) == ([1, 2, 3], ["x"])
    with pytest.raises(ModelError, match="'nothing'"):
        ancestors(source, ["nothing"], [])
