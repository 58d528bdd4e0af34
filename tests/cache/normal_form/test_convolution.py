import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops, weights


@pytest.mark.parametrize("opset", [7, 11, 21])
@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"pads": [1, 2, 0, 1]},
        {"strides": [2, 3], "pads": [1, 1, 1, 1]},
        {"dilations": [2, 3], "pads": [2, 3, 2, 3]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
        {"auto_pad": "VALID"},
        {"kernel_shape": [3, 3], "auto_pad": "NOTSET"},
    ],
)
def test_conv_is_exact(attrs: dict[str, object], opset: int) -> None:
    constants = {"w": weights(6, 4, 3, 3), "b": weights(6)}
    graph = check(build([node("Conv", "x w b", "y", **attrs)], constants, opset=opset))
    assert ops(graph) == ["conv"]
    assert graph.nodes[0].attrs["groups"] == 1


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_conv_is_exact(groups: int) -> None:
    graph = check(build([node("Conv", "x w", "y", group=groups)], {"w": weights(8, 4 // groups, 3, 2)}))
    assert ops(graph) == ["conv"]
    assert graph.nodes[0].attrs["groups"] == groups


def test_conv_with_computed_weights_stays_foreign() -> None:
    nodes = [
        node("GlobalAveragePool", "x", "p"),
        node("Conv", "x p", "y"),
    ]
    assert ops(check(build(nodes))) == ["global_avg_pool", "onnx.Conv"]


def test_three_dimensional_conv_stays_foreign() -> None:
    nodes = [
        node("Unsqueeze", "x axes", "u"),
        node("Conv", "u w", "v"),
        node("Squeeze", "v axes", "y"),
    ]
    constants = {"axes": np.array([2]), "w": weights(5, 4, 1, 3, 3)}
    assert "onnx.Conv" in ops(check(build(nodes, constants)))


@pytest.mark.parametrize("opset", [7, 11, 21])
@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"strides": [2, 2]},
        {"strides": [3, 2], "pads": [1, 0, 2, 1], "output_padding": [1, 1]},
        {"strides": [2, 2], "dilations": [2, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"strides": [2, 2], "auto_pad": "VALID"},
        {"strides": [2, 2], "output_shape": [20, 24]},
        {"strides": [2, 2], "output_shape": [20, 23], "output_padding": [1, 1]},
        {"strides": [2, 2], "output_shape": [21, 24], "auto_pad": "SAME_UPPER"},
    ],
)
def test_conv_transpose_is_exact(attrs: dict[str, object], opset: int) -> None:
    constants = {"w": weights(4, 5, 3, 3), "b": weights(5)}
    graph = check(build([node("ConvTranspose", "x w b", "y", **attrs)], constants, opset=opset))
    assert ops(graph) == ["conv_transpose"]


def test_grouped_conv_transpose_is_exact() -> None:
    graph = check(build([node("ConvTranspose", "x w", "y", group=2)], {"w": weights(4, 3, 2, 2)}))
    assert ops(graph) == ["conv_transpose"]


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalisation_is_an_affine(opset: int) -> None:
    constants = {"g": weights(4), "b": weights(4), "m": weights(4), "v": weights(4) ** 2 + 0.1}
    graph = check(build([node("BatchNormalization", "x g b m v", "y", epsilon=1e-3)], constants, opset=opset))
    assert ops(graph) == ["affine"]


def test_batch_normalisation_in_training_stays_foreign() -> None:
    constants = {"g": weights(4), "b": weights(4), "m": weights(4), "v": weights(4) ** 2 + 0.1}
    nodes = [node("BatchNormalization", "x g b m v", "y m2 v2", training_mode=1)]
    assert ops(check(build(nodes, constants, opset=15), tolerance=1e-4)) == ["onnx.BatchNormalization"]
