import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops

FIVE = {"a": np.array([1, 2, 2, 10, 12]), "b": np.array([1, 4, 10, 12])}


def shuffle(*extra: object) -> list[object]:
    return [
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "t b", "s"),
        *extra,
    ]


def test_shuffle() -> None:
    graph = check(build([*shuffle(), node("Relu", "s", "y")], FIVE))  # type: ignore[list-item]
    assert ops(graph) == ["select_channels", "activate"]
    assert graph.nodes[0].attrs["channels"].tolist() == [0, 2, 1, 3]
    assert graph.nodes[0].output == "s"


def test_shuffle_through_three_dimensions_and_gather() -> None:
    nodes = [
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "t", perm=[1, 0, 2]),
        node("Reshape", "t b", "s"),
        node("Gather", "s zero", "left", axis=0),
        node("Gather", "s one", "right", axis=0),
        node("Concat", "right left", "y", axis=1),
    ]
    constants = {
        "a": np.array([2, 2, 120]),
        "b": np.array([2, -1, 2, 10, 12]),
        "zero": np.array(0),
        "one": np.array(1),
    }
    graph = check(build(nodes, constants))
    assert ops(graph) == ["select_channels", "select_channels", "concat"]
    assert sorted(item.attrs["channels"].tolist() for item in graph.nodes[:2]) == [[0, 2], [1, 3]]


def test_split_of_five_dimensions() -> None:
    nodes = [
        node("Reshape", "x a", "r"),
        node("Split", "r", "p q", axis=2, num_outputs=2),
        node("Squeeze", "p two", "left"),
        node("Squeeze", "q two", "right"),
        node("Add", "left right", "y"),
    ]
    graph = check(build(nodes, {**FIVE, "two": np.array([2])}, opset=18))
    assert ops(graph) == ["select_channels", "select_channels", "add"]
    assert sorted(item.attrs["channels"].tolist() for item in graph.nodes[:2]) == [[0, 2], [1, 3]]


def test_dynamic_shuffle() -> None:
    nodes = [
        node("Shape", "x", "n"),
        node("Slice", "n two four", "hw"),
        node("Concat", "head hw", "a", axis=0),
        *shuffle(),
        node("Relu", "s", "y"),
    ]
    constants = {
        "two": np.array([2]),
        "four": np.array([4]),
        "head": np.array([1, 2, 2]),
        "b": np.array([0, 4, 10, -1]),
    }
    graph = check(build(nodes, constants, shape=(1, 4, "h", "w")))  # type: ignore[arg-type]
    assert ops(graph) == ["select_channels", "activate"]


def test_space_to_depth_by_reshape() -> None:
    nodes = [
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "t", perm=[0, 3, 5, 1, 2, 4]),
        node("Reshape", "t b", "y"),
    ]
    constants = {"a": np.array([1, 4, 5, 2, 6, 2]), "b": np.array([1, 16, 5, 6])}
    assert ops(check(build(nodes, constants))) == ["slice_spatial"] * 4 + ["concat"]
    nodes[1] = node("Transpose", "r", "t", perm=[0, 1, 3, 5, 2, 4])
    assert ops(check(build(nodes, constants))) == ["slice_spatial"] * 4 + ["concat", "select_channels"]


@pytest.mark.parametrize("perm", [[0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 1, 2]])
def test_transposes_of_the_map_stay_foreign(perm: list[int]) -> None:
    assert ops(check(build([node("Transpose", "x", "y", perm=perm)]))) == ["onnx.Transpose"]


def test_splitting_the_width_into_channels_stays_foreign_or_exact() -> None:
    nodes = [
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "y", perm=[0, 2, 1, 3]),
    ]
    # Rows of the result cross from one channel of the source to the next: no slice does that.
    assert "onnx.Reshape" in ops(check(build(nodes, {"a": np.array([1, 40, 3, 4])})))


def test_a_wrong_order_is_not_taken_for_a_shuffle() -> None:
    nodes = [
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 4, 3]),
        node("Reshape", "t b", "y"),
    ]
    assert "select_channels" not in ops(check(build(nodes, FIVE)))
