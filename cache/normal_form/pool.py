"""MaxPool, AveragePool, the global pools, and ReduceMean / ReduceMax over height and width."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cache.evaluate import axes_of
from cache.graph import Node
from cache.normal_form.window import pair, window_pads, window_size
from cache.passes.editor import GraphEditor

_MAX_KERNEL = 4096


def _pool(node: Node, editor: GraphEditor, op: str, extra: Mapping[str, object]) -> list[Node] | None:
    x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
    kernel, strides = pair(node, "kernel_shape", 1), pair(node, "strides", 1)
    dilations = pair(node, "dilations", 1)
    if x is None or out is None or kernel is None or strides is None or dilations is None:
        return None
    if any(name and (editor.consumers(name) or name in editor.outputs) for name in node.outputs[1:]):
        return None
    size = (x.shape[2], x.shape[3])
    pads = window_pads(node, size, kernel, strides, dilations)
    if pads is None or max(kernel) > _MAX_KERNEL:
        return None
    floor = window_size(size, kernel, strides, pads, dilations)
    for i in range(2):
        larger = out.shape[2 + i] - floor[i]
        if larger not in ((0, 1) if node.attrs.get("ceil_mode") else (0,)):
            return None
        for start in range(-pads[i], out.shape[2 + i] * strides[i] - pads[i], strides[i]):
            # A window of padding only has no maximum and no mean.
            if not any(0 <= start + tap * dilations[i] < size[i] for tap in range(kernel[i])):
                return None
    attrs = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations, **extra}
    return [Node(node.name, op, node.inputs[:1], node.outputs[:1], attrs)]


def max_pool(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """MaxPool -> max_pool, unless its indices are used."""
    return _pool(node, editor, "max_pool", {})


def average_pool(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """AveragePool -> avg_pool."""
    return _pool(node, editor, "avg_pool", {"count_include_pad": bool(node.attrs.get("count_include_pad"))})


def _global(op: str) -> Callable[[Node, GraphEditor, int], list[Node] | None]:
    def rule(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        """Global pooling to (1, C, 1, 1)."""
        if editor.feature_map(node.inputs[0]) is None or editor.feature_map(node.output) is None:
            return None
        return [Node(node.name, op, node.inputs[:1], node.outputs[:1], {})]

    return rule


def _reduce(op: str) -> Callable[[Node, GraphEditor, int], list[Node] | None]:
    def rule(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        """A reduction of exactly the two spatial axes that keeps them as 1."""
        if editor.feature_map(node.inputs[0]) is None or editor.feature_map(node.output) is None:
            return None
        axes = axes_of([editor.constants.get(name) for name in node.inputs], node.attrs)
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3] or not node.attrs.get("keepdims", 1):
            return None
        return [Node(node.name, op, node.inputs[:1], node.outputs[:1], {})]

    return rule


RULES: Mapping[str, Callable[[Node, GraphEditor, int], list[Node] | None]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _global("global_avg_pool"),
    "GlobalMaxPool": _global("global_max_pool"),
    "ReduceMean": _reduce("global_avg_pool"),
    "ReduceMax": _reduce("global_max_pool"),
}
