"""Types of what ONNX Runtime's own quantised ops make: onnx's shape inference does not know their domain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cache.graph import FOREIGN_PREFIX, Node, TensorType
from cache.normal_form.window import pair, pool_size, window_pads, window_size

_PREFIX = f"{FOREIGN_PREFIX}com.microsoft."
_BINARY = ("QLinearAdd", "QLinearMul")
_UNARY = ("QLinearSigmoid", "QLinearLeakyRelu")


def contrib_types(node: Node, types: Mapping[str, TensorType]) -> Mapping[str, TensorType]:
    """Types of the outputs of a node of domain com.microsoft; only those that are known here. types : of its inputs."""
    kind = node.op.removeprefix(_PREFIX)
    x = types.get(node.inputs[2 if kind == "QLinearConcat" else 0])
    if x is None:
        return {}
    shape: tuple[int, ...] | None = None
    dtype = x.dtype
    if kind in _UNARY:
        shape = x.shape
    elif kind in _BINARY:
        y = types.get(node.inputs[3])
        shape = None if y is None else tuple(np.broadcast_shapes(x.shape, y.shape))
    elif kind == "QLinearConcat":
        shape = _concat(node, [types.get(name) for name in node.inputs[2::3]])
    elif kind == "QLinearGlobalAveragePool" and not node.attrs.get("channels_last") and len(x.shape) > 2:
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
    elif kind == "QLinearAveragePool" and not node.attrs.get("channels_last") and len(x.shape) == 4:
        shape = _pooled(node, x.shape)
    elif kind == "QuantizeLinear":
        zero = types.get(node.inputs[2]) if len(node.inputs) > 2 else None
        shape, dtype = x.shape, np.dtype(np.uint8) if zero is None else zero.dtype
    elif kind == "DequantizeLinear":
        shape, dtype = x.shape, np.dtype(np.float32)
    return {} if shape is None else {node.outputs[0]: TensorType(dtype, shape)}


def _concat(node: Node, parts: list[TensorType | None]) -> tuple[int, ...] | None:
    shapes = [part.shape for part in parts if part is not None]
    if len(shapes) != len(parts) or len({len(shape) for shape in shapes}) != 1:
        return None
    axis = int(node.attrs["axis"]) % len(shapes[0])
    first = shapes[0]
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _pooled(node: Node, x: tuple[int, ...]) -> tuple[int, ...] | None:
    kernel, strides, size = pair(node, "kernel_shape", 1), pair(node, "strides", 1), (x[2], x[3])
    pads = None if kernel is None or strides is None else window_pads(node, size, kernel, strides, (1, 1))
    if kernel is None or strides is None or pads is None:
        return None
    return (*x[:2], *(pool_size(node, size) or window_size(size, kernel, strides, pads, (1, 1))))
