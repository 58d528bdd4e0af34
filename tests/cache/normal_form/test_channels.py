import numpy as np
import pytest

from cache.graph import is_synthetic
from tests.cache.onnx_models import build, check, node, ops


def test_concat() -> None:
    nodes = [node("Relu", "x", "r"), node("Concat", "x r x", "y", axis=1)]
    assert ops(check(build(nodes))) == ["activate", "concat"]
    nodes = [node("Relu", "x", "r"), node("Concat", "x r", "y", axis=-3)]
    assert ops(check(build(nodes))) == ["activate", "concat"]


def test_concat_elsewhere_stays_foreign() -> None:
    nodes = [node("Relu", "x", "r"), node("Concat", "x r", "y", axis=2)]
    assert ops(check(build(nodes))) == ["activate", "onnx.Concat"]


def test_concat_with_a_constant_stays_foreign() -> None:
    data = build([node("Concat", "x c", "y", axis=1)], {"c": np.ones((1, 2, 10, 12), np.float32)})
    assert ops(check(data)) == ["onnx.Concat"]


@pytest.mark.parametrize("opset", [7, 13, 18])
def test_split(opset: int) -> None:
    constants = {}
    if opset == 7:
        split = node("Split", "x", "a y", axis=1, split=[1, 3])
    elif opset == 13:
        split, constants = node("Split", "x n", "a y", axis=1), {"n": np.array([1, 3])}
    else:
        split = node("Split", "x", "a y", axis=-3, num_outputs=2)
    graph = check(build([split], constants, outputs=["a", "y"], opset=opset))
    assert ops(graph) == ["select_channels"] * 2
    assert graph.nodes[1].attrs["channels"].tolist() == ([2, 3] if opset == 18 else [1, 2, 3])


SLICES = [
    ([1], [3], [1], [1], ["select_channels"]),
    ([-1], [-(2**63) + 1], [1], [-1], ["select_channels"]),
    ([0], [2**63 - 1], [1], [2], ["select_channels"]),
    ([2], [9], [2], [3], ["slice_spatial"]),
    ([1, 0], [99, -1], [2, 3], [2, 2], ["slice_spatial"]),
    ([1, 1], [3, 7], [1, -1], [1, 1], ["select_channels", "slice_spatial"]),
    ([-1], [-99], [3], [-1], ["onnx.Slice"]),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps", "expected"), SLICES)
def test_slice(starts: list[int], ends: list[int], axes: list[int], steps: list[int], expected: list[str]) -> None:
    constants = {"s": np.array(starts), "e": np.array(ends), "a": np.array(axes), "t": np.array(steps)}
    graph = check(build([node("Slice", "x s e a t", "y")], constants))
    assert ops(graph) == expected
    assert graph.nodes[-1].output == "y"
    assert all(is_synthetic(item.output) for item in graph.nodes[:-1])


def test_slice_of_old_opsets() -> None:
    data = build([node("Slice", "x", "y", starts=[1, 2], ends=[4, 2**63 - 1], axes=[1, 3])], opset=9)
    assert ops(check(data)) == ["select_channels", "slice_spatial"]
    data = build([node("Slice", "x", "y", starts=[0, 1], ends=[1, 3])], opset=7)
    assert ops(check(data)) == ["select_channels"]


def test_gather_of_channels() -> None:
    graph = check(build([node("Gather", "x i", "y", axis=1)], {"i": np.array([3, -4, 1, 1])}))
    assert ops(graph) == ["select_channels"]
    assert graph.nodes[0].attrs["channels"].tolist() == [3, 0, 1, 1]


def test_gather_elsewhere_stays_foreign() -> None:
    assert ops(check(build([node("Gather", "x i", "y", axis=2)], {"i": np.array([3, 1])}))) == ["onnx.Gather"]


def test_pad() -> None:
    pads = [0, 0, 1, 2, 0, 0, 3, 0]
    graph = check(build([node("Pad", "x", "y", pads=pads)], opset=7))
    assert graph.nodes[0].attrs["pads"] == (1, 2, 3, 0)
    assert ops(check(build([node("Pad", "x p", "y")], {"p": np.array(pads)}, opset=13))) == ["pad"]
    constants = {"p": np.array([1, 2, 3, 0]), "v": np.float32(0), "a": np.array([2, -1])}
    graph = check(build([node("Pad", "x p v a", "y")], constants, opset=18))
    assert graph.nodes[0].attrs["pads"] == (1, 2, 3, 0)


@pytest.mark.parametrize(("attrs", "value"), [({"mode": "reflect"}, 0), ({"mode": "edge"}, 0), ({}, 1.5)], ids=str)
def test_other_pads_stay_foreign(attrs: dict[str, str], value: float) -> None:
    constants = {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "v": np.float32(value)}
    assert ops(check(build([node("Pad", "x p v", "y", **attrs)], constants))) == ["onnx.Pad"]


def test_crop_by_pad_stays_foreign() -> None:
    constants = {"p": np.array([0, 0, -1, 0, 0, 0, 0, 0])}
    assert ops(check(build([node("Pad", "x p", "y")], constants))) == ["onnx.Pad"]


def test_space_to_depth() -> None:
    graph = check(build([node("SpaceToDepth", "x", "y", blocksize=2)]))
    assert ops(graph) == ["slice_spatial"] * 4 + ["concat"]
