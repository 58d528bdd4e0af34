"""Runs a normal-form graph in plain NumPy (float64 inside), to compare with ONNX Runtime. Test code only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from cache.graph import Activation, Graph, Node
from cache.onnx_import import OnnxModel, extract
from cache.partition import partition

Array = np.ndarray


def onnx_run(model: bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of ONNX Runtime, unoptimised, one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, dict(feeds))


def run_all(model: OnnxModel, graph: Graph, x: Array) -> dict[str, Array]:
    """Every output of the graph: normal-form nodes here, the rest through ``extract`` in ONNX Runtime."""
    parts = partition(graph, lambda graph, node: None)
    values = run_nodes(graph, parts.cached, x)
    for tail in parts.tails:
        feeds = {name: values[name] for name in tail.inputs}
        shapes = {name: value.shape for name, value in feeds.items()}
        piece = extract(model, shapes, tail.outputs, constants=graph.folded)
        values.update(zip(tail.outputs, onnx_run(piece, feeds), strict=True))
    return {name: values[name] for name in graph.outputs}


def run(graph: Graph, x: Array) -> dict[str, Array]:
    """The outputs of a graph without foreign nodes."""
    values = run_nodes(graph, graph.nodes, x)
    return {name: values[name] for name in graph.outputs}


def run_nodes(graph: Graph, nodes: tuple[Node, ...], x: Array) -> dict[str, Array]:
    values: dict[str, Array] = {**graph.constants, graph.inputs[0]: x}
    for node in nodes:
        sources = [values[name] for name in node.inputs]
        shape = graph.types[node.output].shape
        result = _OPS[node.op](node, sources, shape)
        if "activation" in node.attrs:
            result = activate(node.activation, result)
        assert result.shape == shape, (str(node), result.shape, shape)
        values[node.output] = np.ascontiguousarray(result, np.float32)
    return values


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def activate(activation: Activation, x: Array) -> Array:
    x = x.astype(np.float64)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-x))
    match activation.kind:
        case "identity":
            return x
        case "relu":
            return np.maximum(x, 0)
        case "clip":
            return np.clip(x, activation.alpha, activation.beta)
        case "leaky_relu":
            return np.where(x < 0, x * activation.alpha, x)
        case "prelu":
            return np.where(x < 0, x * activation.slope[:, None, None], x)
        case "silu":
            return x * sigmoid
        case "sigmoid":
            return sigmoid
        case "hard_swish":
            return x * np.clip(x / 6 + 0.5, 0, 1)
        case "hard_sigmoid":
            return np.clip(x * activation.alpha + activation.beta, 0, 1)
    raise AssertionError(activation.kind)


def _conv(node: Node, sources: list[Array], shape: tuple[int, ...]) -> Array:
    x, w = sources[0][0].astype(np.float64), sources[1].astype(np.float64)
    a, groups = node.attrs, node.attrs["groups"]
    top, left, bottom, right = a["pads"]
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    out = np.zeros((groups, w.shape[0] // groups, shape[2] * shape[3]))
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for i in range(w.shape[3]):
        for j in range(w.shape[4]):
            tap = _strided(x, i * a["dilations"][0], j * a["dilations"][1], a["strides"], shape)
            out += w[:, :, :, i, j] @ tap.reshape(groups, -1, shape[2] * shape[3])
    out = out.reshape(shape)
    return out + sources[2].reshape(1, -1, 1, 1) if len(sources) > 2 else out


def _strided(x: Array, row: int, column: int, strides: tuple[int, int], shape: tuple[int, ...]) -> Array:
    rows = row + np.arange(shape[2]) * strides[0]
    columns = column + np.arange(shape[3]) * strides[1]
    return x[:, rows[:, None], columns[None, :]]


def _conv_transpose(node: Node, sources: list[Array], shape: tuple[int, ...]) -> Array:
    x, w = sources[0][0].astype(np.float64), sources[1].astype(np.float64)
    a, groups = node.attrs, node.attrs["groups"]
    top, left, bottom, right = a["pads"]
    height, width = shape[2] + top + bottom, shape[3] + left + right
    out = np.zeros((shape[1], height, width))
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    grouped = x.reshape(groups, -1, x.shape[1] * x.shape[2])
    for i in range(w.shape[3]):
        for j in range(w.shape[4]):
            part = np.swapaxes(w[:, :, :, i, j], 1, 2) @ grouped
            rows = i * a["dilations"][0] + np.arange(x.shape[1]) * a["strides"][0]
            columns = j * a["dilations"][1] + np.arange(x.shape[2]) * a["strides"][1]
            out[:, rows[:, None], columns[None, :]] += part.reshape(shape[1], *x.shape[1:])
    out = out[None, :, top : height - bottom, left : width - right]
    return out + sources[2].reshape(1, -1, 1, 1) if len(sources) > 2 else out


def _pool(node: Node, sources: list[Array], shape: tuple[int, ...]) -> Array:
    x, a = sources[0][0].astype(np.float64), node.attrs
    top, left, bottom, right = a["pads"]
    mean = node.op == "avg_pool"
    extent = [(shape[2 + i] - 1) * a["strides"][i] + (a["kernel"][i] - 1) * a["dilations"][i] + 1 for i in (0, 1)]
    more = [max(extent[i] - x.shape[1 + i] - a["pads"][i] - a["pads"][i + 2], 0) for i in (0, 1)]
    pads = ((0, 0), (top, bottom), (left, right))
    counted = np.pad(np.ones_like(x), pads, constant_values=float(mean and a.get("count_include_pad", False)))
    counted = np.pad(counted, ((0, 0), (0, more[0]), (0, more[1])))
    fill = 0.0 if mean else -math.inf
    x = np.pad(x, ((0, 0), (top, bottom + more[0]), (left, right + more[1])), constant_values=fill)
    total = np.full(shape[1:], fill)
    count = np.zeros(shape[1:])
    for i in range(a["kernel"][0]):
        for j in range(a["kernel"][1]):
            at = (i * a["dilations"][0], j * a["dilations"][1], a["strides"], shape)
            total = total + _strided(x, *at) if mean else np.maximum(total, _strided(x, *at))
            count += _strided(counted, *at)
    return (total / count if mean else total)[None]


def _positions(n: int, size: int, scale: float, coordinate: str) -> Array:
    x = np.arange(n, dtype=np.float32)
    s, half = np.float32(scale), np.float32(0.5)
    match coordinate:
        case "half_pixel":
            return (x + half) / s - half
        case "pytorch_half_pixel":
            return (x + half) / s - half if n > 1 else x
        case "asymmetric":
            return x / s
        case "align_corners":
            return x * np.float32(size - 1) / np.float32(n - 1) if n > 1 else x
        case "tf_half_pixel_for_nn":
            return (x + half) / s
        case "half_pixel_symmetric":
            adjustment = np.float32(n) / (s * np.float32(size))
            return np.float32(size / 2) * (1 - adjustment) + (x + half) / s - half
    raise AssertionError(coordinate)


def _resize(node: Node, sources: list[Array], shape: tuple[int, ...]) -> Array:
    x = sources[0]
    for axis in (2, 3):
        size = x.shape[axis]
        p = _positions(shape[axis], size, node.attrs["scales"][axis - 2], node.attrs["coordinate"])
        if node.attrs["mode"] == "nearest":
            rounding = {
                "floor": np.floor,
                "ceil": np.ceil,
                "round_prefer_floor": lambda v: np.ceil(v - np.float32(0.5)),
                "round_prefer_ceil": lambda v: np.floor(v + np.float32(0.5)),
            }[node.attrs["nearest_mode"]]
            x = np.take(x, np.clip(rounding(p).astype(int), 0, size - 1), axis)
        else:
            p = np.clip(p.astype(np.float64), 0, size - 1)
            low = np.floor(p).astype(int)
            weight = (p - low).reshape((-1, 1) if axis == 2 else (1, -1))
            x = np.take(x, low, axis) * (1 - weight) + np.take(x, np.minimum(low + 1, size - 1), axis) * weight
    return x


def _pad(node: Node, sources: list[Array], shape: tuple[int, ...]) -> Array:
    top, left, bottom, right = node.attrs["pads"]
    return np.pad(sources[0], ((0, 0), (0, 0), (top, bottom), (left, right)))


def _affine(node: Node, sources: list[Array], shape: tuple[int, ...]) -> Array:
    x = sources[0].astype(np.float64)
    return x * node.attrs["scale"][:, None, None] + node.attrs["shift"][:, None, None]


_OPS: dict[str, Any] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": lambda n, s, o: s[0].astype(np.float64).mean((2, 3), keepdims=True),
    "global_max_pool": lambda n, s, o: s[0].max((2, 3), keepdims=True),
    "resize": _resize,
    "add": lambda n, s, o: s[0] + s[1],
    "sub": lambda n, s, o: s[0] - s[1],
    "mul": lambda n, s, o: s[0] * s[1],
    "max": lambda n, s, o: np.maximum(s[0], s[1]),
    "min": lambda n, s, o: np.minimum(s[0], s[1]),
    "affine": _affine,
    "activate": lambda n, s, o: s[0],
    "softmax": lambda n, s, o: _softmax(s[0].astype(np.float64)),
    "concat": lambda n, s, o: np.concatenate(s, 1),
    "select_channels": lambda n, s, o: s[0][:, n.attrs["channels"]],
    "slice_spatial": lambda n, s, o: _strided(s[0][0], *n.attrs["starts"], n.attrs["steps"], o)[None],
    "pad": _pad,
}
