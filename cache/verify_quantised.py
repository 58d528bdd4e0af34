"""The rules that ops on bytes keep; part of `cache.verify`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cache.graph import TABLE_OPS, Graph, GraphError, Node

_ENDING = frozenset({"limits", "table"})
_ATTRS: Mapping[str, frozenset[str]] = {
    "quantise": frozenset({"scale", "zero_point", "table"}),
    "dequantise": frozenset({"scale", "zero_point"}),
    "q_conv": _ENDING
    | {"strides", "pads", "dilations", "groups", "scale", "zero_point", "out_zero_point"},
    "q_add": _ENDING | {"scales", "zero_points"},
    "q_mul": _ENDING | {"scales", "zero_points"},
    "q_lookup": frozenset({"table"}),
    "q_max_pool": frozenset({"kernel", "strides", "pads", "dilations"}),
    "q_resize": frozenset({"mode", "coordinate", "nearest_mode", "scales"}),
    "q_concat": frozenset({"axis"}),
    "q_select": frozenset({"channels"}),
    "q_slice": frozenset({"starts", "steps"}),
}  # fmt: skip


def _require(node: Node, what: str, expected: object, found: object) -> None:
    if expected != found:
        raise GraphError(f"{node}: expected {what} {expected}, found {found}")


def verify_quantised(graph: Graph, node: Node) -> None:
    """Check attributes, types and shapes of a node of `QUANTISED_OPS`. Raises GraphError."""
    _require(node, "attributes", sorted(_ATTRS[node.op]), sorted(node.attrs))
    _require(node, "number of outputs", 1, len(node.outputs))
    _verify_types(graph, node)
    if node.op in TABLE_OPS:
        table = node.attrs["table"]
        if table is not None and (table.dtype != np.uint8 or table.shape != (256,)):
            raise GraphError(f"{node}: expected a table uint8[256], found {table.dtype}{list(table.shape)}")
    x, out = graph.types[node.inputs[0]].shape, graph.types[node.output].shape
    if node.op in ("quantise", "dequantise", "q_lookup"):
        _require(node, "output shape", x, out)
    elif node.op == "q_conv":
        _verify_conv(graph, node, x, out)
    elif node.op in ("q_add", "q_mul"):
        y = graph.types[node.inputs[1]].shape
        _require(node, "output shape", x, out)
        if y not in (x, (1, x[1], 1, 1)):
            raise GraphError(f"{node}: expected y to be {x} or {(1, x[1], 1, 1)}, found {y}")
    elif node.op == "q_concat":
        _require(node, "channels", sum(graph.types[name].shape[1] for name in node.inputs), out[1])
    elif node.op == "q_select":
        _require(node, "channels", node.attrs["channels"].shape, (out[1],))
    else:
        _require(node, "channels", x[1], out[1])


def _verify_types(graph: Graph, node: Node) -> None:
    for name in (*graph.activations(node), node.output):
        found = graph.types.get(name)
        is_float = (node.op == "quantise" and name != node.output) or (node.op == "dequantise" and name == node.output)
        if found is None or not (found.is_feature_map if is_float else found.is_byte_map):
            expected = "float32" if is_float else "uint8 or int8"
            raise GraphError(f"{node}: expected {name!r} to be {expected}[1, C, H, W], found {found}")
    if node.inputs[0] in graph.constants:
        raise GraphError(f"{node}: expected a computed tensor as first input, found a constant")


def _verify_conv(graph: Graph, node: Node, x: tuple[int, ...], out: tuple[int, ...]) -> None:
    for name, dtype in zip(node.inputs[1:], (np.int8, np.int32), strict=False):
        value = graph.constants.get(name)
        if value is None or value.dtype != dtype:
            raise GraphError(f"{node}: expected {name!r} to be a constant of {np.dtype(dtype)}, found it is not")
    w = graph.constants[node.inputs[1]]
    _require(node, "weights", (out[1], x[1] // node.attrs["groups"], *w.shape[2:]), w.shape)
    scale = node.attrs["scale"]
    _require(node, "scale", ("float32", (out[1],)), (str(scale.dtype), scale.shape))
    pads, strides, dilations = (node.attrs[name] for name in ("pads", "strides", "dilations"))
    size = tuple(
        (x[2 + i] + pads[i] + pads[i + 2] - (w.shape[2 + i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(2)
    )
    _require(node, "output size", size, out[2:])
