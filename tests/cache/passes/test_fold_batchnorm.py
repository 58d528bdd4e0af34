import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops, weights

BN = {
    "g": weights(6) + 2,
    "b": weights(6, seed=2),
    "m": weights(6, seed=3),
    "v": weights(6, seed=4) ** 2 + 0.5,
}
NORM = node("BatchNormalization", "c g b m v", "n")


@pytest.mark.parametrize("bias", [False, True])
def test_after_conv(bias: bool) -> None:
    conv = node("Conv", "x w k" if bias else "x w", "c", pads=[1, 1, 1, 1])
    graph = check(build([conv, NORM, node("Relu", "n", "y")], {**BN, "w": weights(6, 4, 3, 3), "k": weights(6)}))
    assert ops(graph) == ["conv"]
    assert graph.nodes[0].activation.kind == "relu"


@pytest.mark.parametrize("groups", [1, 2])
def test_after_conv_transpose(groups: int) -> None:
    conv = node("ConvTranspose", "x w", "c", strides=[2, 2], group=groups)
    graph = check(
        build([conv, node("BatchNormalization", "c g b m v", "y")], {**BN, "w": weights(4, 6 // groups, 2, 2)})
    )
    assert ops(graph) == ["conv_transpose"]


def test_bias_written_as_an_add() -> None:
    nodes = [node("Conv", "x w", "c"), node("Add", "c k", "y")]
    assert ops(check(build(nodes, {"w": weights(6, 4, 1, 1), "k": weights(1, 6, 1, 1)}))) == ["conv"]


@pytest.mark.parametrize("groups", [1, 2])
def test_before_conv_without_padding(groups: int) -> None:
    nodes = [node("Mul", "x s", "m"), node("Add", "m t", "a"), node("Conv", "a w k", "y", group=groups)]
    constants = {
        "s": weights(4, 1, 1),
        "t": weights(4, 1, 1, seed=5),
        "w": weights(6, 4 // groups, 3, 3),
        "k": weights(6),
    }
    assert ops(check(build(nodes, constants))) == ["conv"]


def test_before_conv_with_padding_only_a_scale_passes() -> None:
    constants = {"s": np.float32(1 / 255), "t": np.float32(0.5), "w": weights(6, 4, 3, 3)}
    conv = node("Conv", "m w", "y", pads=[1, 1, 1, 1])
    assert ops(check(build([node("Mul", "x s", "m"), conv], constants))) == ["conv"]
    assert ops(check(build([node("Add", "x t", "m"), conv], constants))) == ["affine", "conv"]


def test_shared_tensor_is_kept() -> None:
    nodes = [node("Conv", "x w", "c"), NORM, node("Add", "c n", "y")]
    assert ops(check(build(nodes, {**BN, "w": weights(6, 4, 1, 1)}))) == ["conv", "affine", "add"]


def test_output_is_kept() -> None:
    nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c g b m v", "y")]
    graph = check(build(nodes, {**BN, "w": weights(6, 4, 1, 1)}, outputs=["c", "y"]))
    assert ops(graph) == ["conv", "affine"]


def test_affines_merge() -> None:
    nodes = [node("Mul", "x s", "a"), node("Add", "a t", "b"), node("Div", "b u", "y")]
    constants = {"s": weights(4, 1, 1), "t": weights(1), "u": np.float32(3)}
    graph = check(build(nodes, constants))
    assert ops(graph) == ["affine"]
    np.testing.assert_allclose(graph.nodes[0].attrs["shift"], np.full(4, weights(1)[0] / 3), rtol=1e-6)


def test_overflowing_scale_is_not_folded() -> None:
    constants = {"w": np.full((6, 4, 1, 1), 1e30, np.float32), "s": np.float32(1e30)}
    nodes = [node("Mul", "x t", "z"), node("Conv", "z w", "c"), node("Mul", "c s", "y")]
    assert ops(check(build(nodes, {**constants, "t": np.float32(0)}))) == ["conv", "affine"]
