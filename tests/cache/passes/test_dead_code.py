import numpy as np

from cache.graph import Graph, Node, TensorType
from cache.passes.dead_code import remove_dead_code, strip_placeholders
from tests.cache.onnx_models import build, check, node, ops, weights

MAP = TensorType(np.dtype(np.float32), (1, 2, 3, 3))


def test_what_nobody_needs_goes() -> None:
    nodes = [node("Conv", "x w", "unused"), node("Relu", "x", "y")]
    graph = check(build(nodes, {"w": weights(3, 4, 1, 1)}))
    assert ops(graph) == ["activate"]
    assert not graph.constants
    assert set(graph.types) == {"x", "y"}


def test_a_node_with_one_needed_output_stays_whole() -> None:
    nodes = (Node("a", "onnx.Foo", ("x",), ("y", "z")), Node("b", "onnx.Bar", ("z",), ("u",)))
    graph = remove_dead_code(Graph("g", ("x",), ("y",), nodes, {}, {"x": MAP}))
    assert [item.outputs for item in graph.nodes] == [("y", "z")]


def test_placeholders_of_absent_inputs_go() -> None:
    nodes = (Node("a", "onnx.Foo", ("x", "", "w"), ("y", "")),)
    graph = strip_placeholders(Graph("g", ("x",), ("y",), nodes, {"w": np.zeros(1)}, {"x": MAP}))
    assert graph.nodes[0].inputs == ("x", "w")
    assert graph.nodes[0].outputs == ("y",)
