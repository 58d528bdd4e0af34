"""The rules that every graph keeps; run after every pass, so that a broken pass is found where it broke.

Knows the normal form of ``cache.graph`` and nothing of how graphs are made or run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cache.graph import (
    ACTIVATION_KINDS,
    CONV_OPS,
    ELTWISE_OPS,
    FUSING_OPS,
    GLOBAL_POOL_OPS,
    NORMAL_OPS,
    POOL_OPS,
    QUANTISED_OPS,
    Activation,
    Graph,
    GraphError,
    Node,
)
from cache.verify_quantised import verify_quantised

__all__ = ["GraphError", "verify"]

_CONV_ATTRS = frozenset({"strides", "pads", "dilations", "groups", "activation"})
_POOL_ATTRS = frozenset({"kernel", "strides", "pads", "dilations"})
_ATTRS: Mapping[str, frozenset[str]] = {
    "conv": _CONV_ATTRS,
    "conv_transpose": _CONV_ATTRS | {"output_padding"},
    "max_pool": _POOL_ATTRS,
    "avg_pool": _POOL_ATTRS | {"count_include_pad"},
    "global_avg_pool": frozenset(),
    "global_max_pool": frozenset(),
    "resize": frozenset({"mode", "coordinate", "nearest_mode", "scales"}),
    **dict.fromkeys(ELTWISE_OPS, frozenset({"activation"})),
    "affine": frozenset({"scale", "shift", "activation"}),
    "activate": frozenset({"activation"}),
    "softmax": frozenset(),
    "concat": frozenset({"axis"}),
    "select_channels": frozenset({"channels"}),
    "slice_spatial": frozenset({"starts", "steps"}),
    "pad": frozenset({"pads"}),
}
_LENGTHS = {
    "strides": 2,
    "pads": 4,
    "dilations": 2,
    "kernel": 2,
    "output_padding": 2,
    "starts": 2,
    "steps": 2,
}
_POSITIVE = frozenset({"strides", "dilations", "kernel", "steps"})

Shape = tuple[int, ...]


def verify(graph: Graph) -> None:
    """Check structure, attributes and shapes of every node.

    Raises GraphError with the node, what was expected and what was found.
    """
    known = set(graph.constants)
    for name in graph.inputs:
        if name not in graph.types:
            raise GraphError(f"input {name!r}: expected a type, found none")
        known.add(name)
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"{node}: expected a unique node name, found it twice")
        names.add(node.name)
        for tensor in node.inputs:
            if tensor and tensor not in known:
                raise GraphError(f"{node}: expected input {tensor!r} to be made before it, found it is not")
        for tensor in node.outputs:
            if tensor and tensor in known:
                raise GraphError(f"{node}: expected to be the only source of {tensor!r}, found another")
            known.add(tensor)
        if node.op in QUANTISED_OPS:
            verify_quantised(graph, node)
        elif not node.is_foreign:
            _verify_normal(graph, node)
    for tensor in graph.outputs:
        if tensor not in known:
            raise GraphError(f"output {tensor!r}: expected a node that makes it, found none")


def _require(node: Node, what: str, expected: object, found: object) -> None:
    if expected != found:
        raise GraphError(f"{node}: expected {what} {expected}, found {found}")


def _verify_normal(graph: Graph, node: Node) -> None:
    if node.op not in NORMAL_OPS:
        raise GraphError(f"{node}: expected an op of {', '.join(sorted(NORMAL_OPS))} or onnx.*")
    _require(node, "attributes", sorted(_ATTRS[node.op]), sorted(node.attrs))
    _require(node, "number of outputs", 1, len(node.outputs))
    _verify_attributes(node)
    for name in (*graph.activations(node), node.output):
        found = graph.types.get(name)
        if found is None or not found.is_feature_map:
            raise GraphError(f"{node}: expected {name!r} to be float32[1, C, H, W], found {found}")
    x = _shape(graph, node.inputs[0], node)
    if node.inputs[0] in graph.constants:
        raise GraphError(f"{node}: expected a computed tensor as first input, found a constant")
    out = _shape(graph, node.output, node)
    _RULES[node.op](graph, node, x, out)
    if node.op in FUSING_OPS:
        _verify_activation(node, out[1])


def _verify_attributes(node: Node) -> None:
    for name, length in _LENGTHS.items():
        if name not in node.attrs:
            continue
        value = node.attrs[name]
        if not isinstance(value, tuple) or not all(type(item) is int for item in value):
            raise GraphError(f"{node}: expected {name} to be a tuple of int, found {value!r}")
        _require(node, f"length of {name}", length, len(value))
        if min(value) < (1 if name in _POSITIVE else 0):
            raise GraphError(f"{node}: expected {name} not to be negative or empty, found {value}")


def _verify_activation(node: Node, channels: int) -> None:
    activation = node.attrs["activation"]
    if not isinstance(activation, Activation) or activation.kind not in ACTIVATION_KINDS:
        raise GraphError(f"{node}: expected a known activation, found {activation!r}")
    if activation.kind == "prelu":
        slope = activation.slope
        _require(node, "slope", ("float32", (channels,)), slope is not None and _describe(slope))


def _describe(value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[str, Shape]:
    return str(value.dtype), value.shape


def _shape(graph: Graph, name: str, node: Node) -> Shape:
    found = graph.type_of(name)
    if found is None:
        raise GraphError(f"{node}: expected a type of {name!r}, found none")
    return found.shape


def _verify_conv(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    if len(node.inputs) not in (2, 3):
        raise GraphError(f"{node}: expected inputs (x, w[, b]), found {node.inputs}")
    for name in node.inputs[1:]:
        if name not in graph.constants or graph.constants[name].dtype != np.float32:
            raise GraphError(f"{node}: expected {name!r} to be a float32 constant, found it is not")
    w = graph.constants[node.inputs[1]]
    groups = node.attrs["groups"]
    _require(node, "rank of the weights", 4, w.ndim)
    if type(groups) is not int or groups < 1 or x[1] % groups or out[1] % groups:
        raise GraphError(f"{node}: expected groups to divide {x[1]} and {out[1]} channels, found {groups}")
    if node.op == "conv":
        _require(node, "weights", (out[1], x[1] // groups, *w.shape[2:]), w.shape)
        _require(node, "output size", conv_size(node, x[2:], w.shape[2:]), out[2:])
    else:
        _require(node, "weights", (x[1], out[1] // groups, *w.shape[2:]), w.shape)
        _require(node, "output size", conv_transpose_size(node, x[2:], w.shape[2:]), out[2:])
    if len(node.inputs) == 3:
        _require(node, "bias", (out[1],), graph.constants[node.inputs[2]].shape)


def conv_size(node: Node, size: Shape, kernel: Shape) -> Shape:
    """Output height and width of a convolution (or a pool, rounded down) from its attributes."""
    pads, strides, dilations = (node.attrs[name] for name in ("pads", "strides", "dilations"))
    return tuple(
        (size[i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(2)
    )


def conv_transpose_size(node: Node, size: Shape, kernel: Shape) -> Shape:
    """Output height and width of a transposed convolution from its attributes."""
    pads, strides, dilations = (node.attrs[name] for name in ("pads", "strides", "dilations"))
    extra = node.attrs["output_padding"]
    return tuple(
        (size[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] - pads[i] - pads[i + 2]
        for i in range(2)
    )


def _verify_pool(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "number of inputs", 1, len(node.inputs))
    _require(node, "channels", x[1], out[1])
    floor = conv_size(node, x[2:], node.attrs["kernel"])
    for axis in range(2):
        if out[2 + axis] not in (floor[axis], floor[axis] + 1):
            raise GraphError(f"{node}: expected output size {floor} (or one more), found {out[2:]}")
        last = (out[2 + axis] - 1) * node.attrs["strides"][axis] - node.attrs["pads"][axis]
        if last >= x[2 + axis] + node.attrs["pads"][axis + 2]:
            raise GraphError(f"{node}: expected every window to start inside the padded input of {x[2:]}")
    if node.op == "avg_pool" and not isinstance(node.attrs["count_include_pad"], bool):
        raise GraphError(f"{node}: expected count_include_pad to be a bool")


def _verify_global_pool(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "number of inputs", 1, len(node.inputs))
    _require(node, "output shape", (1, x[1], 1, 1), out)


def _verify_resize(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "number of inputs", 1, len(node.inputs))
    _require(node, "channels", x[1], out[1])
    scales = node.attrs["scales"]
    if len(scales) != 2 or not all(type(item) is float and item > 0 for item in scales):
        raise GraphError(f"{node}: expected two positive float scales, found {scales}")
    if node.attrs["mode"] not in ("nearest", "linear"):
        raise GraphError(f"{node}: expected mode nearest or linear, found {node.attrs['mode']!r}")


def _verify_eltwise(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "number of inputs", 2, len(node.inputs))
    _require(node, "number of computed inputs", 2, len(graph.activations(node)))
    _require(node, "output shape", x, out)
    y = _shape(graph, node.inputs[1], node)
    if y not in (x, (1, x[1], 1, 1)):
        raise GraphError(f"{node}: expected y to be {x} or {(1, x[1], 1, 1)}, found {y}")


def _verify_affine(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "number of inputs", 1, len(node.inputs))
    _require(node, "output shape", x, out)
    for name in ("scale", "shift"):
        _require(node, name, ("float32", (x[1],)), _describe(node.attrs[name]))


def _verify_activate(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "number of inputs", 1, len(node.inputs))
    _require(node, "output shape", x, out)


def _verify_concat(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "axis", 1, node.attrs["axis"])
    shapes = [_shape(graph, name, node) for name in node.inputs]
    for name, shape in zip(node.inputs, shapes, strict=True):
        if name in graph.constants:
            raise GraphError(f"{node}: expected computed inputs, found constant {name!r}")
        _require(node, f"size of {name!r}", out[2:], shape[2:])
    _require(node, "channels", sum(shape[1] for shape in shapes), out[1])


def _verify_select(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    channels = node.attrs["channels"]
    _require(node, "channels", ("int64", (out[1],)), _describe(channels))
    _require(node, "size", x[2:], out[2:])
    if channels.min() < 0 or channels.max() >= x[1]:
        raise GraphError(f"{node}: expected channels below {x[1]}, found {channels.min()}..{channels.max()}")


def _verify_slice(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    _require(node, "channels", x[1], out[1])
    for axis in range(2):
        last = node.attrs["starts"][axis] + (out[2 + axis] - 1) * node.attrs["steps"][axis]
        if last >= x[2 + axis]:
            raise GraphError(f"{node}: expected the last index below {x[2 + axis]}, found {last}")


def _verify_pad(graph: Graph, node: Node, x: Shape, out: Shape) -> None:
    top, left, bottom, right = node.attrs["pads"]
    _require(node, "output shape", (1, x[1], x[2] + top + bottom, x[3] + left + right), out)


_RULES: Mapping[str, Callable[[Graph, Node, Shape, Shape], None]] = {
    **dict.fromkeys(CONV_OPS, _verify_conv),
    **dict.fromkeys(POOL_OPS, _verify_pool),
    **dict.fromkeys(GLOBAL_POOL_OPS, _verify_global_pool),
    "resize": _verify_resize,
    **dict.fromkeys(ELTWISE_OPS, _verify_eltwise),
    "affine": _verify_affine,
    "activate": _verify_activate,
    "softmax": _verify_activate,
    "concat": _verify_concat,
    "select_channels": _verify_select,
    "slice_spatial": _verify_slice,
    "pad": _verify_pad,
}
