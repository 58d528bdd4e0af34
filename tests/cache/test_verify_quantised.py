"""Broken graphs of bytes are refused, with what was expected and found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cache.graph import Graph, GraphError, Node, TensorType
from cache.verify import verify

U8, FLOAT = np.dtype(np.uint8), np.dtype(np.float32)
CONV: dict[str, Any] = {
    "strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "scale": np.ones(6, np.float32),
    "zero_point": 3, "out_zero_point": 0, "limits": (0, 255), "table": None,
}  # fmt: skip
SUM: dict[str, Any] = {"scales": (1.0,) * 3, "zero_points": (0,) * 3, "limits": (0, 255), "table": None}
TABLE = np.zeros(256, np.uint8)


def graph(
    op: str, attrs: dict[str, Any], out: tuple[int, ...], inputs: tuple[str, ...] = ("x",), x: Any = U8, y: Any = U8
) -> Graph:
    constants = {"w": np.zeros((6, 4, 3, 3), np.int8), "b": np.zeros(6, np.int32), "f": np.zeros(6, np.float32)}
    types = {"x": TensorType(np.dtype(x), (1, 4, 8, 8)), "y": TensorType(np.dtype(y), out)}
    return Graph("g", ("x",), ("y",), (Node("n", op, inputs, ("y",), attrs),), constants, types)


@pytest.mark.parametrize(
    "good",
    [
        graph("quantise", {"scale": 1.0, "zero_point": 0, "table": TABLE}, (1, 4, 8, 8), x=FLOAT),
        graph("dequantise", {"scale": 1.0, "zero_point": 0}, (1, 4, 8, 8), y=FLOAT),
        graph("q_conv", CONV, (1, 6, 4, 4), ("x", "w", "b")),
        graph("q_add", SUM, (1, 4, 8, 8), ("x", "x")),
        graph("q_lookup", {"table": TABLE}, (1, 4, 8, 8), y=np.int8),
        graph("q_concat", {"axis": 1}, (1, 8, 8, 8), ("x", "x")),
        graph("q_select", {"channels": np.array([3, 0])}, (1, 2, 8, 8)),
    ],
    ids=lambda item: item.nodes[0].op,
)
def test_good_graphs_pass_but_not_with_a_wrong_output_shape(good: Graph) -> None:
    verify(good)
    wrong = {**good.types, "y": TensorType(good.types["y"].dtype, (1, 7, 99, 99))}
    with pytest.raises(GraphError, match="'n'"):
        verify(replace(good, types=wrong))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (graph("quantise", {"scale": 1.0, "zero_point": 0, "table": None}, (1, 4, 8, 8)), "'x' to be float32"),
        (graph("q_lookup", {"table": TABLE}, (1, 4, 8, 8), y=FLOAT), "'y' to be uint8 or int8"),
        (graph("q_lookup", {"table": TABLE[:9]}, (1, 4, 8, 8)), r"a table uint8\[256\]"),
        (graph("q_lookup", {}, (1, 4, 8, 8)), "attributes"),
        (graph("q_lookup", {"table": TABLE}, (1, 4, 8, 9)), "output shape"),
        (graph("q_conv", CONV, (1, 6, 4, 4), ("x", "f")), "'f' to be a constant of int8"),
        (graph("q_conv", CONV, (1, 6, 4, 4), ("x", "w", "f")), "'f' to be a constant of int32"),
        (graph("q_conv", CONV, (1, 6, 5, 4), ("x", "w")), "output size"),
        (graph("q_conv", CONV | {"scale": np.ones(4, np.float32)}, (1, 6, 4, 4), ("x", "w")), "scale"),
        (graph("q_conv", CONV | {"groups": 2}, (1, 6, 4, 4), ("x", "w")), "weights"),
        (graph("q_add", SUM, (1, 4, 8, 9), ("x", "x")), "output shape"),
        (graph("q_concat", {"axis": 1}, (1, 7, 8, 8), ("x", "x")), "channels"),
        (graph("q_select", {"channels": np.array([3, 0])}, (1, 3, 8, 8)), "channels"),
        (graph("q_slice", {"starts": (0, 0), "steps": (1, 1)}, (1, 3, 8, 8)), "channels"),
    ],
)
def test_bad_graphs_are_refused(bad: Graph, reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        verify(bad)
