import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops, weights

NUMBERS = {name: np.array([value]) for name, value in {"n0": 0, "n1": 1, "n2": 2, "n3": 3, "big": 1 << 40}.items()}


def focus(order: str = "00 10 01 11") -> list[object]:
    """YOLOX's Focus: rows, then columns, then their concat."""
    nodes = []
    for name in order.split():
        nodes.append(node("Slice", f"x n{name[0]} big n2 n2", f"r{name}"))
        nodes.append(node("Slice", f"r{name} n{name[1]} big n3 n2", f"s{name}"))
    parts = " ".join(f"s{name}" for name in order.split())
    return [*nodes, node("Concat", parts, "f", axis=1)]


@pytest.mark.parametrize("attrs", [{}, {"pads": [1, 1, 1, 1]}, {"pads": [1, 0, 2, 1], "strides": [2, 1]}], ids=str)
@pytest.mark.parametrize("order", ["00 10 01 11", "11 00 01 10"])
def test_focus_becomes_one_convolution(attrs: dict[str, list[int]], order: str) -> None:
    nodes = [*focus(order), node("Conv", "f w b", "y", **attrs)]
    graph = check(build(nodes, {**NUMBERS, "w": weights(5, 16, 3, 3), "b": weights(5)}))  # type: ignore[arg-type]
    assert ops(graph) == ["conv"]
    assert graph.nodes[0].inputs[0] == "x"
    assert graph.constants[graph.nodes[0].inputs[1]].shape == (5, 4, 6, 6)


def test_space_to_depth_op_is_folded_too() -> None:
    nodes = [node("SpaceToDepth", "x", "f", blocksize=2), node("Conv", "f w", "y")]
    assert ops(check(build(nodes, {"w": weights(5, 16, 1, 1)}))) == ["conv"]


def test_dilated_or_grouped_convolutions_keep_the_slices() -> None:
    dilated = [*focus(), node("Conv", "f w", "y", dilations=[2, 2])]
    constants = {**NUMBERS, "w": weights(5, 16, 2, 2), "v": weights(8, 8, 1, 1)}
    assert ops(check(build(dilated, constants))) == ["slice_spatial"] * 4 + ["concat", "conv"]  # type: ignore[arg-type]
    grouped = [*focus(), node("Conv", "f v", "y", group=2)]
    assert ops(check(build(grouped, constants))) == ["slice_spatial"] * 4 + ["concat", "conv"]  # type: ignore[arg-type]


def test_incomplete_sets_keep_the_slices() -> None:
    nodes = [*focus("00 10 01 01"), node("Conv", "f w", "y")]
    # The same slice twice: the pixels of the fourth are not there.
    nodes = [
        *focus("00 10 01")[:-1],
        node("Concat", "s00 s10 s01 s01", "f", axis=1),
        node("Conv", "f w", "y"),
    ]
    assert "slice_spatial" in ops(check(build(nodes, {**NUMBERS, "w": weights(5, 16, 1, 1)})))  # type: ignore[arg-type]


def test_odd_sizes_keep_the_slices() -> None:
    nodes = [
        node("Slice", "x n0 e10 n2 n2", "a"),
        node("Slice", "x n1 e10 n2 n2", "b"),
        node("Concat", "a b", "f", axis=1),
        node("Conv", "f w", "y", pads=[1, 1, 1, 1]),
    ]
    shape = (1, 4, 11, 12)
    data = build(nodes, {**NUMBERS, "e10": np.array([10]), "w": weights(5, 8, 3, 3)}, shape=shape)
    assert ops(check(data, shape)) == ["slice_spatial", "slice_spatial", "concat", "conv"]
