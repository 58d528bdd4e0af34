from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cache.graph import IDENTITY, Activation, Graph, GraphError, Node, TensorType
from cache.verify import verify

FLOAT = np.dtype(np.float32)
CONV = {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": IDENTITY}
POOL = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
VECTOR = np.ones(4, np.float32)


def graph(
    op: str, attrs: dict[str, Any], out: tuple[int, ...], inputs: tuple[str, ...] = ("x",), **shapes: Any
) -> Graph:
    constants = {"w": np.zeros((6, 4, 3, 3), np.float32), "b": np.zeros(6, np.float32)}
    types = {"x": TensorType(FLOAT, (1, 4, 8, 8)), "y": TensorType(FLOAT, out)}
    types.update({name: TensorType(FLOAT, shape) for name, shape in shapes.items()})
    names = ("x", *shapes)
    return Graph("g", names, ("y",), (Node("n", op, inputs, ("y",), attrs),), constants, types)


GOOD = [
    graph("conv", CONV, (1, 6, 4, 4), ("x", "w", "b")),
    graph("max_pool", POOL, (1, 4, 4, 4)),
    graph("avg_pool", {**POOL, "strides": (3, 3), "count_include_pad": True}, (1, 4, 3, 3)),
    graph("global_avg_pool", {}, (1, 4, 1, 1)),
    graph("add", {"activation": IDENTITY}, (1, 4, 8, 8), ("x", "x")),
    graph("mul", {"activation": IDENTITY}, (1, 4, 8, 8), ("x", "v"), v=(1, 4, 1, 1)),
    graph("affine", {"scale": VECTOR, "shift": VECTOR, "activation": IDENTITY}, (1, 4, 8, 8)),
    graph("activate", {"activation": Activation("prelu", slope=VECTOR)}, (1, 4, 8, 8)),
    graph("softmax", {}, (1, 4, 8, 8)),
    graph("concat", {"axis": 1}, (1, 8, 8, 8), ("x", "x")),
    graph("select_channels", {"channels": np.array([3, 3, 0])}, (1, 3, 8, 8)),
    graph("slice_spatial", {"starts": (1, 0), "steps": (2, 1)}, (1, 4, 4, 8)),
    graph("pad", {"pads": (1, 0, 2, 3)}, (1, 4, 11, 11)),
    graph(
        "resize",
        {"mode": "nearest", "coordinate": "asymmetric", "nearest_mode": "floor", "scales": (2.0, 2.0)},
        (1, 4, 16, 16),
    ),
]


@pytest.mark.parametrize("good", GOOD, ids=lambda item: item.nodes[0].op)
def test_good_graphs_pass_but_not_with_a_wrong_output_shape(good: Graph) -> None:
    verify(good)
    types = {**good.types, "y": TensorType(FLOAT, (1, 7, 99, 99))}
    with pytest.raises(GraphError, match=r"'n' \(.*expected"):
        verify(replace(good, types=types))


@pytest.mark.parametrize("good", GOOD, ids=lambda item: item.nodes[0].op)
def test_a_missing_or_strange_attribute_is_found(good: Graph) -> None:
    node = good.nodes[0]
    for attrs in ({**node.attrs, "foo": 1}, dict(list(node.attrs.items())[1:]) if node.attrs else {"a": 1}):
        with pytest.raises(GraphError, match="expected attributes"):
            verify(replace(good, nodes=(Node("n", node.op, node.inputs, node.outputs, attrs),)))


BAD = [
    (graph("conv", {**CONV, "groups": 3}, (1, 6, 4, 4), ("x", "w")), "groups"),
    (graph("conv", {**CONV, "pads": (1, 1)}, (1, 6, 4, 4), ("x", "w")), "length of pads"),
    (graph("conv", {**CONV, "strides": [2, 2]}, (1, 6, 4, 4), ("x", "w")), "tuple of int"),
    (graph("conv", {**CONV, "strides": (0, 1)}, (1, 6, 4, 4), ("x", "w")), "negative or empty"),
    (graph("conv", CONV, (1, 6, 4, 4), ("x", "v"), v=(1, 4, 3, 3)), "constant"),
    (graph("conv", CONV, (1, 6, 4, 4), ("x", "w", "w")), "bias"),
    (graph("conv", {**CONV, "activation": Activation("gelu")}, (1, 6, 4, 4), ("x", "w")), "activation"),
    (graph("activate", {"activation": Activation("prelu")}, (1, 4, 8, 8)), "slope"),
    (graph("add", {"activation": IDENTITY}, (1, 4, 8, 8), ("x", "v"), v=(1, 1, 8, 8)), "expected y"),
    (graph("add", {"activation": IDENTITY}, (1, 4, 8, 8), ("x", "w")), "computed inputs"),
    (graph("select_channels", {"channels": np.array([4])}, (1, 1, 8, 8)), "below 4"),
    (graph("slice_spatial", {"starts": (1, 0), "steps": (2, 1)}, (1, 4, 5, 8)), "last index"),
    (graph("max_pool", {**POOL, "strides": (4, 4)}, (1, 4, 3, 3)), "start inside"),
    (graph("concat", {"axis": 1}, (1, 10, 8, 8), ("x", "w")), "computed inputs"),
    (graph("gelu", {}, (1, 4, 8, 8)), "expected an op"),
    (graph("activate", {"activation": IDENTITY}, (1, 4, 8, 8), ("nowhere",)), "made before"),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=lambda item: item if isinstance(item, str) else "")
def test_bad_graphs_are_named(bad: Graph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(bad)


def test_structure() -> None:
    good = GOOD[3]
    with pytest.raises(GraphError, match="output 'z'"):
        verify(replace(good, outputs=("z",)))
    with pytest.raises(GraphError, match="unique node name"):
        verify(replace(good, nodes=(good.nodes[0], good.nodes[0])))
    with pytest.raises(GraphError, match="only source"):
        verify(replace(good, nodes=(good.nodes[0], Node("m", "onnx.A", ("x",), ("y",)))))
    with pytest.raises(GraphError, match="input 'u'"):
        verify(replace(good, inputs=("x", "u")))


def test_types_of_foreign_nodes_may_be_unknown() -> None:
    node = Node("n", "onnx.NonZero", ("x",), ("i",))
    foreign = Graph("g", ("x",), ("i",), (node,), {}, {"x": TensorType(FLOAT, (1, 4, 8, 8))})
    verify(foreign)
    with pytest.raises(GraphError, match="'n'"):
        verify(replace(foreign, nodes=(replace(node, op="softmax"),)))
