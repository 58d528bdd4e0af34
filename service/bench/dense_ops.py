"""Everything of a network that is no convolution, dense, in NumPy: what the im2col baseline needs around its products.

Maps are float32[C, H, W], C-contiguous. An op is prepared once for its shapes; then it writes into memory that it is
given. Knows nodes of the engine's graph, no plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cache.graph import Activation, Graph, Node
from cache.ops.resize import axis
from service.bench.errors import BenchError

Floats: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, int, int]
Run: TypeAlias = Callable[[Sequence[Floats], Floats], object]
"""(inputs, output to write)"""


class UnknownOpError(BenchError):
    """A network has an op that the baseline does not compute; the message names it."""


def prepare(graph: Graph, node: Node) -> Run:
    """The op of a node without its activation. Raises UnknownOpError."""
    if node.op in _ELTWISE:
        return partial(_eltwise, _ELTWISE[node.op])
    if node.op not in _OPS:
        raise UnknownOpError(f"the im2col baseline does not compute {node.op} ({node.name})")
    return _OPS[node.op](graph, node)


def shape_of(graph: Graph, name: str) -> Shape:
    """(C, H, W) of a map of the graph."""
    found = graph.type_of(name)
    assert found is not None, name  # of what is cached, every shape is known
    _, channels, height, width = found.shape
    return channels, height, width


def _eltwise(function: Any, sources: Sequence[Floats], out: Floats) -> None:
    x, y = sources
    function(x, y.reshape(-1, 1, 1) if y.size == x.shape[0] and y.shape != x.shape else y, out=out)


def _affine(graph: Graph, node: Node) -> Run:
    scale, shift = (np.asarray(node.attrs[key], np.float32).reshape(-1, 1, 1) for key in ("scale", "shift"))

    def run(sources: Sequence[Floats], out: Floats) -> None:
        np.multiply(sources[0], scale, out=out)
        np.add(out, shift, out=out)

    return run


def _spans(size: int, outputs: int, before: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Of one position of a window along an axis: outputs that see an input there, and the inputs they see."""
    first = max(0, -((offset - before) // stride))
    last = min(outputs - 1, (size - 1 + before - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset - before
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)


def _pool(graph: Graph, node: Node) -> Run:
    attrs, (_, height, width) = node.attrs, shape_of(graph, node.inputs[0])
    (rows, columns), (top, left, bottom, right) = attrs["kernel"], attrs["pads"]
    outputs, is_mean = shape_of(graph, node.output)[1:], node.op == "avg_pool"
    spans = [
        (
            _spans(height, outputs[0], top, attrs["strides"][0], i * attrs["dilations"][0]),
            _spans(width, outputs[1], left, attrs["strides"][1], j * attrs["dilations"][1]),
        )
        for i in range(rows)
        for j in range(columns)
    ]
    share = np.zeros(outputs, np.float32)
    padded = (height + top + bottom, width + left + right) if attrs.get("count_include_pad") else None
    for i in range(rows):
        for j in range(columns):
            if padded is None:
                (down, _), (across, _) = spans[i * columns + j]
            else:
                down = _spans(padded[0], outputs[0], 0, attrs["strides"][0], i * attrs["dilations"][0])[0]
                across = _spans(padded[1], outputs[1], 0, attrs["strides"][1], j * attrs["dilations"][1])[0]
            share[down, across] += 1
    share = np.float32(1) / np.maximum(share, 1)

    def run(sources: Sequence[Floats], out: Floats) -> None:
        x, function = sources[0], np.add if is_mean else np.maximum
        out[...] = 0 if is_mean else -np.inf
        for (down, rows_in), (across, columns_in) in spans:
            part = out[:, down, across]
            function(part, x[:, rows_in, columns_in], out=part)
        if is_mean:
            np.multiply(out, share, out=out)

    return run


def _global(graph: Graph, node: Node) -> Run:
    function: Any = np.mean if node.op == "global_avg_pool" else np.max
    return lambda sources, out: function(sources[0], axis=(1, 2), keepdims=True, out=out)


def _resize(graph: Graph, node: Node) -> Run:
    (_, *inputs), (_, *outputs) = shape_of(graph, node.inputs[0]), shape_of(graph, node.output)
    ways = [axis(node, i, o, s) for i, o, s in zip(inputs, outputs, node.attrs["scales"], strict=True)]
    if node.attrs["mode"] == "nearest":
        rows, columns = (index[:, 0] for index, _ in ways)

        def nearest(sources: Sequence[Floats], out: Floats) -> None:
            np.take(np.take(sources[0], columns, axis=2), rows, axis=1, out=out, mode="clip")

        return nearest

    def linear(sources: Sequence[Floats], out: Floats) -> None:
        found = sources[0]
        for at, (index, weight) in enumerate(ways, 1):
            far = weight.reshape((-1, 1) if at == 1 else (1, -1))
            low, high = (np.take(found, index[:, side], axis=at) for side in (0, 1))
            found = low + (high - low) * far
        np.copyto(out, found)

    return linear


def _softmax(sources: Sequence[Floats], out: Floats) -> None:
    np.subtract(sources[0], sources[0].max(0), out=out)
    np.exp(out, out=out)
    np.divide(out, out.sum(0), out=out)


def _select(graph: Graph, node: Node) -> Run:
    channels = np.asarray(node.attrs["channels"], np.intp)
    return lambda sources, out: np.take(sources[0], channels, axis=0, out=out, mode="clip")


def _slice(graph: Graph, node: Node) -> Run:
    (_, height, width), starts, steps = shape_of(graph, node.output), node.attrs["starts"], node.attrs["steps"]
    rows, columns = (
        slice(int(s), int(s) + (n - 1) * int(d) + 1, int(d))
        for s, d, n in zip(starts, steps, (height, width), strict=True)
    )
    return lambda sources, out: np.copyto(out, sources[0][:, rows, columns])


def _pad(graph: Graph, node: Node) -> Run:
    top, left = node.attrs["pads"][:2]

    def run(sources: Sequence[Floats], out: Floats) -> None:
        _, height, width = sources[0].shape
        out[...] = 0
        out[:, top : top + height, left : left + width] = sources[0]

    return run


_ELTWISE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
_OPS: dict[str, Callable[[Graph, Node], Run]] = {
    "affine": _affine,
    "activate": lambda graph, node: lambda sources, out: np.copyto(out, sources[0]),
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": _global,
    "global_max_pool": _global,
    "resize": _resize,
    "softmax": lambda graph, node: _softmax,
    "concat": lambda graph, node: lambda sources, out: np.concatenate(sources, axis=0, out=out),
    "select_channels": _select,
    "slice_spatial": _slice,
    "pad": _pad,
}


IN_PLACE = frozenset({"identity", "relu", "clip"})


def needs_scratch(activation: Activation) -> bool:
    """Whether `activate` takes scratch for it."""
    return activation.kind not in IN_PLACE


def activate(activation: Activation, x: Floats, scratch: Floats) -> None:
    """Apply an activation in place. scratch : float32, as large as x or larger where `needs_scratch`."""
    kind, alpha, beta = activation.kind, np.float32(activation.alpha), np.float32(activation.beta)
    if kind == "relu":
        np.maximum(x, np.float32(0), out=x)
    if kind == "clip":
        np.clip(x, alpha, beta, out=x)
    if not needs_scratch(activation):
        return
    spare = scratch[: x.size].reshape(x.shape)
    if kind in ("leaky_relu", "prelu"):
        slope = alpha if activation.slope is None else activation.slope.reshape(-1, 1, 1)
        np.minimum(x, np.float32(0), out=spare)
        np.maximum(x, np.float32(0), out=x)
        np.multiply(spare, slope, out=spare)
        np.add(x, spare, out=x)
    elif kind in ("silu", "sigmoid"):
        np.negative(x, out=spare)
        np.exp(spare, out=spare)
        np.add(spare, np.float32(1), out=spare)
        np.divide(x if kind == "silu" else np.float32(1), spare, out=x)
    elif kind in ("hard_swish", "hard_sigmoid"):
        slope, shift = (np.float32(1 / 6), np.float32(0.5)) if kind == "hard_swish" else (alpha, beta)
        np.multiply(x, slope, out=spare)
        np.add(spare, shift, out=spare)
        np.clip(spare, np.float32(0), np.float32(1), out=spare)
        np.multiply(x if kind == "hard_swish" else np.float32(1), spare, out=x)
