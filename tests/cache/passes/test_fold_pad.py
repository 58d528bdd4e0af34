import numpy as np
import pytest

from tests.cache.onnx_models import build, check, node, ops, weights

PAD = node("Pad", "x p", "q")
CONSTANTS = {"p": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "w": weights(5, 4, 3, 3)}
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}


@pytest.mark.parametrize("attrs", [{}, {"pads": [1, 1, 0, 2]}, {"strides": [2, 2]}], ids=str)
def test_into_a_convolution(attrs: dict[str, list[int]]) -> None:
    graph = check(build([PAD, node("Conv", "q w", "y", **attrs)], CONSTANTS))
    assert ops(graph) == ["conv"]


def test_into_every_reader_on_its_own() -> None:
    nodes = [
        PAD,
        node("Conv", "q w", "a"),
        node("Conv", "q w", "b", pads=[1, 1, 1, 1]),
        node("Relu", "q", "c"),
    ]
    graph = check(build(nodes, CONSTANTS, outputs=["a", "b", "c"]))
    assert sorted(ops(graph)) == ["activate", "conv", "conv", "pad"]


@pytest.mark.parametrize("include", [0, 1])
def test_into_an_average_pool(include: int) -> None:
    graph = check(build([PAD, node("AveragePool", "q", "y", count_include_pad=include, **WINDOW)], CONSTANTS))
    assert ops(graph) == ["avg_pool"]
    assert graph.nodes[0].attrs["count_include_pad"] is True


def test_average_pool_that_leaves_out_its_own_padding_keeps_the_pad() -> None:
    pool = node("AveragePool", "q", "y", pads=[1, 1, 1, 1], **WINDOW)
    assert ops(check(build([PAD, pool], CONSTANTS))) == ["pad", "avg_pool"]


def test_into_a_max_pool_of_what_is_never_negative() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("Pad", "r p", "q"),
        node("MaxPool", "q", "y", **WINDOW),
    ]
    assert ops(check(build(nodes, CONSTANTS))) == ["conv", "max_pool"]


def test_max_pool_of_anything_else_keeps_the_pad() -> None:
    assert ops(check(build([PAD, node("MaxPool", "q", "y", **WINDOW)], CONSTANTS))) == ["pad", "max_pool"]


def test_window_of_padding_only_keeps_the_pad() -> None:
    constants = {"p": np.array([0, 0, 3, 0, 0, 0, 0, 0])}
    nodes = [node("Relu", "x", "r"), node("Pad", "r p", "q"), node("MaxPool", "q", "y", **WINDOW)]
    assert ops(check(build(nodes, constants))) == ["activate", "pad", "max_pool"]
