import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops

WINDOWS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]},
    {"kernel_shape": [3, 3], "auto_pad": "VALID"},
]


@pytest.mark.parametrize("attrs", WINDOWS)
@pytest.mark.parametrize("opset", [7, 11, 21])
def test_max_pool(attrs: dict[str, object], opset: int) -> None:
    assert ops(check(build([node("MaxPool", "x", "y", **attrs)], opset=opset))) == ["max_pool"]


@pytest.mark.parametrize("attrs", WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(attrs: dict[str, object], include: int) -> None:
    graph = check(build([node("AveragePool", "x", "y", count_include_pad=include, **attrs)]))
    assert ops(graph) == ["avg_pool"]
    assert graph.nodes[0].attrs["count_include_pad"] is bool(include)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("pad", [0, 1])
def test_ceil_mode(op: str, kernel: int, stride: int, pad: int) -> None:
    attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": 1}
    graph = check(build([node(op, "x", "y", **attrs)], shape=(1, 2, 10, 13), opset=19), (1, 2, 10, 13))
    assert ops(graph) in (["max_pool"], ["avg_pool"])


@pytest.mark.parametrize("kernel", [2, 3])
def test_ceil_mode_counts_padding_only_inside(kernel: int) -> None:
    attrs = {"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1}
    check(build([node("AveragePool", "x", "y", count_include_pad=1, **attrs)], opset=19))


def test_ceil_mode_starts_no_window_in_the_trailing_padding() -> None:
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1}
    nodes = [node("MaxPool", "x", "p", **attrs), node("Conv", "p w", "y")]
    graph = check(build(nodes, {"w": np.ones((1, 2, 2, 2), np.float32)}, shape=(1, 2, 9, 13)), (1, 2, 9, 13))
    assert ops(graph) == ["max_pool", "conv"]
    assert graph.types["p"].shape == (1, 2, 5, 7)


def test_dilated_max_pool() -> None:
    attrs = {"kernel_shape": [3, 2], "dilations": [2, 3]}
    assert ops(check(build([node("MaxPool", "x", "y", **attrs)]))) == ["max_pool"]


def test_window_of_padding_only_stays_foreign() -> None:
    attrs = {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1]}
    assert ops(check(build([node("MaxPool", "x", "y", **attrs)], shape=(1, 2, 1, 1)), (1, 2, 1, 1))) == ["onnx.MaxPool"]


def test_used_indices_stay_foreign() -> None:
    nodes = [
        node("MaxPool", "x", "p i", kernel_shape=[2, 2]),
        node("Cast", "i", "f", to=1),
        node("Add", "p f", "y"),
    ]
    assert "onnx.MaxPool" in ops(check(build(nodes)))


@pytest.mark.parametrize(
    ("op", "normal"),
    [("GlobalAveragePool", "global_avg_pool"), ("GlobalMaxPool", "global_max_pool")],
)
def test_global_pools(op: str, normal: str) -> None:
    assert ops(check(build([node(op, "x", "y")]))) == [normal]


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
@pytest.mark.parametrize(("op", "normal"), [("ReduceMean", "global_avg_pool"), ("ReduceMax", "global_max_pool")])
def test_reductions_over_the_map(op: str, normal: str, axes: list[int]) -> None:
    assert ops(check(build([node(op, "x", "y", axes=axes)], opset=13))) == [normal]
    assert ops(check(build([node(op, "x a", "y")], {"a": np.array(axes)}, opset=18))) == [normal]


def test_other_reductions_stay_foreign() -> None:
    assert ops(check(build([node("ReduceMean", "x", "y", axes=[1])]))) == ["onnx.ReduceMean"]
    assert ops(check(build([node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)]))) == ["onnx.ReduceMean"]
    assert ops(check(build([node("ReduceMean", "x", "y", noop_with_empty_axes=1)], opset=18))) != ["global_avg_pool"]
