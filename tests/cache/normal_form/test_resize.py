import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops

NONE = np.zeros(0, np.float32)
COORDINATES = [
    "half_pixel",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "tf_half_pixel_for_nn",
    "half_pixel_symmetric",
]


def scales(height: float, width: float) -> np.ndarray:
    return np.array([1, 1, height, width], np.float32)


@pytest.mark.parametrize("size", [(2.0, 2.0), (1.5, 3.0), (0.5, 0.6)])
@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinate", COORDINATES)
def test_nearest_by_scales(size: tuple[float, float], nearest: str, coordinate: str) -> None:
    attrs = {"mode": "nearest", "nearest_mode": nearest, "coordinate_transformation_mode": coordinate}
    data = build([node("Resize", "x - s", "y", **attrs)], {"s": scales(*size)}, opset=19)
    found = ops(check(data))
    exact = size == (2.0, 2.0) and coordinate != "align_corners"
    assert found == ["resize"] or (found == ["onnx.Resize"] and not exact)


def test_nearest_on_an_inexact_edge_stays_foreign() -> None:
    # Pixel 3 reads from 3 / float32(0.6), which is 2e-7 below 5: floor gives 4 or 5 by how it is rounded.
    attrs = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    data = build([node("Resize", "x - s", "y", **attrs)], {"s": scales(1, 0.6)}, opset=19)
    assert ops(check(data)) == ["onnx.Resize"]


@pytest.mark.parametrize("size", [(2.0, 2.0), (1.5, 3.0), (0.5, 0.6)])
@pytest.mark.parametrize("coordinate", [name for name in COORDINATES if name != "tf_half_pixel_for_nn"])
def test_linear_by_scales(size: tuple[float, float], coordinate: str) -> None:
    attrs = {"mode": "linear", "coordinate_transformation_mode": coordinate}
    data = build([node("Resize", "x - s", "y", **attrs)], {"s": scales(*size)}, opset=19)
    assert ops(check(data)) == ["resize"]


@pytest.mark.parametrize("target", [(20, 24), (17, 31), (7, 5)])
@pytest.mark.parametrize(
    "attrs",
    [{"mode": "linear"}, {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}],
    ids=["linear", "nearest"],
)
def test_by_sizes(target: tuple[int, int], attrs: dict[str, str]) -> None:
    constants = {"r": NONE, "s": NONE, "n": np.array([1, 4, *target])}
    graph = check(build([node("Resize", "x r s n", "y", **attrs)], constants, opset=11))
    assert ops(graph) == ["resize"]
    assert graph.nodes[0].attrs["scales"] == pytest.approx((target[0] / 10, target[1] / 12))


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-2, -1]])
def test_listed_axes(axes: list[int]) -> None:
    constants = {"s": np.array([2.0, 3.0], np.float32)}
    data = build([node("Resize", "x - s", "y", axes=axes)], constants, opset=18)
    assert ops(check(data)) == ["resize"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [(2.0, 3.0), (0.5, 0.5)])
def test_opset_10(mode: str, size: tuple[float, float]) -> None:
    data = build([node("Resize", "x s", "y", mode=mode)], {"s": scales(*size)}, opset=10)
    assert ops(check(data)) == ["resize"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    by_input = build([node("Upsample", "x s", "y", mode=mode)], {"s": scales(2, 3)}, opset=9)
    assert ops(check(by_input)) == ["resize"]
    by_attribute = build([node("Upsample", "x", "y", mode=mode, scales=[1.0, 1.0, 2.0, 3.0])], opset=7)
    assert ops(check(by_attribute)) == ["resize"]


def test_same_size_is_no_work() -> None:
    nodes = [node("Resize", "x - s", "r", mode="linear"), node("Relu", "r", "y")]
    graph = check(build(nodes, {"s": scales(1, 1)}, opset=13))
    assert ops(graph) == ["activate"]
    assert graph.nodes[0].inputs == ("x",)


@pytest.mark.parametrize(
    "attrs",
    [{"mode": "cubic"}, {"mode": "linear", "antialias": 1}, {"mode": "linear", "exclude_outside": 0}],
)
def test_only_what_is_known(attrs: dict[str, object]) -> None:
    data = build([node("Resize", "x - s", "y", **attrs)], {"s": scales(0.5, 0.5)}, opset=18)
    known = attrs.get("mode") == "linear" and not attrs.get("antialias")
    assert ops(check(data)) == ["resize" if known else "onnx.Resize"]


def test_target_from_the_shape_of_another_map() -> None:
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "x", "n"),
        node("Resize", "p - - n", "r", mode="linear"),
        node("Add", "x r", "y"),
    ]
    graph = check(build(nodes, shape=(1, 4, None, None), opset=13))
    assert ops(graph) == ["max_pool", "resize", "add"]
    assert "n" in graph.folded
