import numpy as np
import pytest

from cache.graph import Graph, GraphError, Node, TensorType, is_synthetic
from cache.passes.editor import GraphEditor

MAP = TensorType(np.dtype(np.float32), (1, 2, 3, 3))


def graph() -> Graph:
    nodes = (
        Node("a", "onnx.A", ("x",), ("p",)),
        Node("b", "onnx.B", ("p", "p", "k"), ("q",)),
        Node("c", "onnx.C", ("p", "q"), ("y",)),
    )
    return Graph("g", ("x",), ("y",), nodes, {"k": np.ones(3)}, {"x": MAP, "p": MAP, "q": MAP, "y": MAP})


def test_links() -> None:
    editor = GraphEditor(graph())
    assert editor.producer("x") is None
    assert [item.name for item in editor.consumers("p")] == ["b", "c"]
    assert editor.private("q")
    assert not editor.private("p")
    assert not editor.private("y")


def test_rewire_and_remove() -> None:
    editor = GraphEditor(graph())
    b = editor.producer("q")
    assert b is not None
    editor.rewire("q", "p")
    editor.remove(b)
    assert [item.inputs for item in editor.finish().nodes] == [("x",), ("p", "p")]
    assert "k" in editor.finish().constants
    assert "k" not in editor.finish(keep_constants=False).constants


def test_each_sees_nodes_as_they_stand() -> None:
    editor = GraphEditor(graph())
    seen = []
    for item in editor.each():
        seen.append((item.name, item.op))
        if item.name == "a":
            editor.update(editor.nodes[2], op="onnx.New")
            editor.rewire("q", "p")
            b = editor.producer("q")
            assert b is not None
            editor.remove(b)
    assert seen == [("a", "onnx.A"), ("c", "onnx.New")]


def test_order_is_put_right() -> None:
    editor = GraphEditor(graph())
    editor.add(Node("late", "onnx.L", ("x",), ("r",)))
    editor.update(editor.nodes[0], inputs=("r",))
    assert [item.name for item in editor.finish().nodes] == ["late", "a", "b", "c"]


def test_cycles_are_found() -> None:
    editor = GraphEditor(graph())
    editor.update(editor.nodes[0], inputs=("y",))
    with pytest.raises(GraphError, match="cycle"):
        editor.finish()


def test_new_names_are_synthetic_and_fresh() -> None:
    editor = GraphEditor(graph())
    first, second = editor.add_tensor("q", MAP), editor.add_tensor("q", MAP)
    assert first != second
    assert is_synthetic(first)
    assert is_synthetic(editor.add_constant(first, np.zeros(1)))
    with pytest.raises(GraphError, match="new node name"):
        editor.add(Node("a", "onnx.A", ("x",), ("z",)))


def test_small_constants() -> None:
    editor = GraphEditor(graph())
    scalar = editor.add_constant("s", np.array([[2.5]], np.float32))
    numbers = editor.add_constant("n", np.array([1, 2]))
    assert editor.scalar(scalar) == 2.5
    assert editor.scalar("k") is None
    assert editor.integers(numbers) == (1, 2)
    assert editor.integers("k") is None
