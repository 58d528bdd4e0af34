import numpy as np

from cache.graph import Graph, Node
from cache.onnx_import import import_graph, load_model
from cache.partition import partition
from tests.cache.onnx_models import SHAPE, build, node, weights


def everything(graph: Graph, node: Node) -> str | None:
    return None


def imported(nodes: list[object], constants: dict[str, object], outputs: tuple[str, ...] = ("y",)) -> Graph:
    return import_graph(load_model(build(nodes, constants, outputs=outputs)), SHAPE)  # type: ignore[arg-type]


W = {"w": weights(4, 4, 1, 1), "v": weights(4, 4, 1, 1, seed=2)}


def test_everything_cached() -> None:
    parts = partition(imported([node("Conv", "x w", "y")], W), everything)
    assert [item.op for item in parts.cached] == ["conv"]
    assert parts.tails == ()
    assert parts.reasons == {}


def test_foreign_ops_and_what_follows() -> None:
    nodes = [
        node("Conv", "x w", "c", name="first"),
        node("Tanh", "c", "t", name="odd"),
        node("Conv", "t v", "y", name="second"),
    ]
    parts = partition(imported(nodes, W), everything)
    assert [item.name for item in parts.cached] == ["first"]
    (tail,) = parts.tails
    assert tail.inputs == ("c",)
    assert tail.outputs == ("y",)
    assert tail.node_names == ("odd", "second")
    assert tail.reasons == ("Tanh is not a cached op in this form",)
    assert parts.reasons["second"] == "comes after 'odd' (Tanh)"


def test_the_callers_reason() -> None:
    nodes = [node("Conv", "x w", "c"), node("MaxPool", "c", "y", kernel_shape=[2, 2])]
    graph = imported(nodes, W)
    parts = partition(graph, lambda graph, node: "too small a window" if node.op == "max_pool" else None)
    assert parts.tails[0].reasons == ("too small a window",)


def test_tails_that_share_only_cached_tensors_are_apart() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Tanh", "c", "a"),
        node("Erf", "c", "b"),
        node("Erf", "x", "d"),
        node("Add", "a d", "e"),
    ]
    parts = partition(imported(nodes, W, ("a", "b", "e")), everything)
    assert [(tail.inputs, tail.outputs) for tail in parts.tails] == [
        (("c", "x"), ("a", "e")),
        (("c",), ("b",)),
    ]


def test_what_feeds_a_tail_through_a_made_up_tensor_joins_it() -> None:
    nodes = [node("Conv", "x w", "c"), node("SpaceToDepth", "c", "y", blocksize=2)]
    graph = imported(nodes, W)
    parts = partition(graph, lambda graph, node: "no concat" if node.op == "concat" else None)
    assert [item.op for item in parts.cached] == ["conv"]
    (tail,) = parts.tails
    assert tail.inputs == ("c",)
    assert len(tail.node_names) == 5
    assert tail.reasons == ("no concat",)


def test_a_tail_without_inputs() -> None:
    nodes = [node("RandomNormal", "", "r", shape=[1, 4, 1, 1]), node("Add", "x r", "y")]
    parts = partition(imported(nodes, {}), everything)
    assert parts.tails[0].inputs == ("x",)
    assert len(parts.tails[0].node_names) == 2


def test_every_node_is_somewhere_once() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Tanh", "c", "t"),
        node("Concat", "c t", "j", axis=1),
        node("Reshape", "j n", "y"),
    ]
    graph = imported(nodes, {**W, "n": np.array([1, -1])})
    parts = partition(graph, everything)
    names = [item.name for item in parts.cached] + [name for tail in parts.tails for name in tail.node_names]
    assert sorted(names) == sorted(item.name for item in graph.nodes)
