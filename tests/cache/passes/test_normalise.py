import numpy as np

from cache.graph import Graph, Node, TensorType
from cache.passes.normalise import normalise

MAP = TensorType(np.dtype(np.float32), (1, 2, 3, 3))
HALF = TensorType(np.dtype(np.float16), (1, 2, 3, 3))


def relu(kind: TensorType) -> Graph:
    return Graph("g", ("x",), ("y",), (Node("r", "onnx.Relu", ("x",), ("y",)),), {}, {"x": kind, "y": kind})


def test_rules_are_applied() -> None:
    assert normalise(relu(MAP), 17).nodes[0].op == "activate"


def test_only_float32_maps() -> None:
    assert normalise(relu(HALF), 17).nodes[0].op == "onnx.Relu"


def test_definitions_that_are_too_new_are_left_alone() -> None:
    assert normalise(relu(MAP), 99, {"Relu"}).nodes[0].op == "onnx.Relu"


def test_other_domains_are_left_alone() -> None:
    graph = Graph("g", ("x",), ("y",), (Node("r", "onnx.my.Relu", ("x",), ("y",)),), {}, {"x": MAP, "y": MAP})
    assert normalise(graph, 17).nodes[0].op == "onnx.my.Relu"
