import pytest

from tests.cache.onnx_models import build, check, node, ops

THERE, BACK = (node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Transpose", "s", "y", perm=[0, 3, 1, 2]))


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("opset", [13, 21])
def test_over_channels(axis: int, opset: int) -> None:
    assert ops(check(build([node("Softmax", "x", "y", axis=axis)], opset=opset))) == ["softmax"]


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [3, -1])
def test_over_channels_that_are_moved_last_and_back(axis: int, opset: int) -> None:
    nodes = [THERE, node("Softmax", "t", "s", axis=axis), BACK]
    assert ops(check(build(nodes, opset=opset))) == ["softmax"]
    turned = [node("Transpose", a, b, perm=[0, 3, 2, 1]) for a, b in ("xt", "sy")]
    assert ops(check(build([turned[0], nodes[1], turned[1]], opset=opset))) == ["softmax"]


def test_an_axis_that_stood_for_all_after_it() -> None:
    assert ops(check(build([node("Softmax", "x", "y", axis=1)], opset=11))) == ["onnx.Softmax"]
    nodes = [node("GlobalAveragePool", "x", "p"), node("Softmax", "p", "y")]
    assert ops(check(build(nodes, opset=11))) == ["global_avg_pool", "softmax"]


@pytest.mark.parametrize("axis", [2, 3])
def test_other_axes_stay_foreign(axis: int) -> None:
    assert ops(check(build([node("Softmax", "x", "y", axis=axis)], opset=13))) == ["onnx.Softmax"]


def test_other_orders_stay_foreign() -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Softmax", "t", "s", axis=3),
             node("Transpose", "s", "y", perm=[0, 1, 3, 2])]  # fmt: skip
    assert "onnx.Softmax" in ops(check(build(nodes, opset=13)))


def test_channels_that_stay_last_stay_foreign() -> None:
    foreign = ["onnx.Transpose", "onnx.Softmax"]
    assert ops(check(build([THERE, node("Softmax", "t", "y", axis=3)], opset=13))) == foreign
    both = [THERE, node("Softmax", "t", "s", axis=3), BACK]
    assert ops(check(build(both, opset=13, outputs=("s", "y")))) == [*foreign, "onnx.Transpose"]
