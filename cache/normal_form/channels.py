"""Concat, Split, Slice, Gather, Pad and SpaceToDepth: which channels and pixels go where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.evaluate import axes_of, slices_of
from cache.graph import IDENTITY, Node, TensorType
from cache.passes.editor import GraphEditor


def _copy(node: Node) -> list[Node]:
    return [Node(node.name, "activate", node.inputs[:1], node.outputs[:1], {"activation": IDENTITY})]


def select(name: str, x: str, y: str, channels: npt.NDArray[np.int64]) -> Node:
    """A select_channels node."""
    return Node(name, "select_channels", (x,), (y,), {"channels": channels})


def concat(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Concat of maps along the channels -> concat."""
    out = editor.feature_map(node.output)
    if out is None or node.attrs.get("axis", 1) not in (1, -3):
        return None
    if any(editor.feature_map(name) is None for name in node.inputs):
        return None
    if len(node.inputs) == 1:
        return _copy(node)
    return [Node(node.name, "concat", node.inputs, node.outputs, {"axis": 1})]


def split(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Split along the channels -> one select_channels per part."""
    x = editor.feature_map(node.inputs[0])
    if x is None or node.attrs.get("axis", 0) not in (1, -3):
        return None
    parts = [editor.feature_map(name) for name in node.outputs]
    sizes = [part.shape[1] for part in parts if part is not None]
    if len(sizes) != len(parts) or sum(sizes) != x.shape[1]:
        return None
    nodes: list[Node] = []
    start = 0
    for index, (name, size) in enumerate(zip(node.outputs, sizes, strict=True)):
        channels = np.arange(start, start + size, dtype=np.int64)
        nodes.append(select(f"{node.name}/{index}", node.inputs[0], name, channels))
        start += size
    return nodes


def slice_map(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Slice -> select_channels, slice_spatial, or both."""
    x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
    values = [editor.constants.get(name) for name in node.inputs]
    if x is None or out is None or any(name and values[i] is None for i, name in enumerate(node.inputs) if i):
        return None
    try:
        slices = slices_of(4, values, node.attrs)
        return _take(node, editor, slices, x, out)
    except (ValueError, IndexError):  # a zero step, an axis that is not there
        return None


def _take(
    node: Node, editor: GraphEditor, slices: Sequence[slice], x: TensorType, out: TensorType
) -> list[Node] | None:
    ranges = [range(size)[part] for size, part in zip(x.shape, slices, strict=True)]
    if tuple(len(item) for item in ranges) != out.shape or min(ranges[2].step, ranges[3].step) < 1:
        return None
    whole = [item == range(size) for item, size in zip(ranges, x.shape, strict=True)]
    if all(whole):
        return _copy(node)
    nodes: list[Node] = []
    source = node.inputs[0]
    channels = np.asarray(ranges[1], np.int64)
    spatial = not (whole[2] and whole[3])
    if not whole[1] and not spatial:
        return [select(node.name, source, node.output, channels)]
    if not whole[1]:
        middle = editor.add_tensor(node.output, TensorType(x.dtype, (1, out.shape[1], *x.shape[2:])))
        nodes.append(select(f"{node.name}/channels", source, middle, channels))
        source = middle
    attrs = {
        "starts": (ranges[2].start, ranges[3].start),
        "steps": (ranges[2].step, ranges[3].step),
    }
    nodes.append(Node(node.name, "slice_spatial", (source,), node.outputs, attrs))
    return nodes


def gather(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Gather of listed channels -> select_channels."""
    x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
    indices = editor.constants.get(node.inputs[1])
    if x is None or out is None or indices is None or indices.ndim != 1:
        return None
    if node.attrs.get("axis", 0) not in (1, -3):
        return None
    channels = np.where(indices < 0, indices + x.shape[1], indices).astype(np.int64)
    if channels.size == 0 or channels.min() < 0 or channels.max() >= x.shape[1]:
        return None
    return [select(node.name, node.inputs[0], node.output, channels)]


def pad(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Zero Pad of height and width -> pad."""
    x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
    pads = _pads(node, editor)
    if x is None or out is None or pads is None:
        return None
    if not any(pads):
        return _copy(node)
    if node.attrs.get("mode", "constant") != "constant" or _pad_value(node, editor) != 0:
        return None
    if min(pads) < 0 or any(pads[i] for i in (0, 1, 4, 5)):
        return None
    attrs = {"pads": (pads[2], pads[3], pads[6], pads[7])}
    return [Node(node.name, "pad", node.inputs[:1], node.outputs, attrs)]


def _pads(node: Node, editor: GraphEditor) -> list[int] | None:
    """Begin and end of each of four axes."""
    given: Sequence[int] | None = node.attrs.get("pads", node.attrs.get("paddings"))
    if given is None:
        given = editor.integers(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None:
        return None
    axes: Sequence[int] = range(4)
    if len(node.inputs) > 3 and node.inputs[3]:
        listed = axes_of([editor.constants.get(name) for name in node.inputs], {}, position=3)
        if listed is None:
            return None
        axes = [axis % 4 for axis in listed]
    if len(given) != 2 * len(axes):
        return None
    full = [0] * 8
    for i, axis in enumerate(axes):
        full[axis], full[axis + 4] = int(given[i]), int(given[i + len(axes)])
    return full


def _pad_value(node: Node, editor: GraphEditor) -> float | None:
    if len(node.inputs) > 2 and node.inputs[2]:
        return editor.scalar(node.inputs[2])
    return float(node.attrs.get("value", 0.0))


def space_to_depth(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """SpaceToDepth -> a slice_spatial per offset, and their concat."""
    x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
    block = int(node.attrs.get("blocksize", 0))
    if x is None or out is None or block < 1 or x.shape[2] % block or x.shape[3] % block:
        return None
    nodes: list[Node] = []
    part = TensorType(x.dtype, (1, x.shape[1], *out.shape[2:]))
    for row in range(block):
        for column in range(block):
            name = editor.add_tensor(f"{node.output}/{row},{column}", part)
            attrs: dict[str, Any] = {"starts": (row, column), "steps": (block, block)}
            nodes.append(Node(f"{node.name}/{row},{column}", "slice_spatial", node.inputs[:1], (name,), attrs))
    parts = tuple(item.output for item in nodes)
    return [*nodes, Node(node.name, "concat", parts, node.outputs, {"axis": 1})]


RULES: Mapping[str, Callable[[Node, GraphEditor, int], list[Node] | None]] = {
    "Concat": concat,
    "Split": split,
    "Slice": slice_map,
    "Gather": gather,
    "Pad": pad,
    "SpaceToDepth": space_to_depth,
}
