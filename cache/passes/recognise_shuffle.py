"""Finds what chains of Reshape, Transpose, Gather and the like do to a map, by following every element.

A channel shuffle is a Reshape to groups, a Transpose and a Reshape back, and exporters spell it in many
ways. Instead of matching spellings, the index of each element is sent through the chain: where the result
is again a map of the same size that takes whole channels, the chain is one ``select_channels``; where it
takes every s-th pixel of whole channels, it is slices and a concat.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cache.evaluate import axes_of, evaluate
from cache.graph import FOREIGN_PREFIX, Graph, Node, TensorType
from cache.passes.editor import GraphEditor

MAX_ELEMENTS = 1 << 25
"""Maps larger than this are not followed: the chain stays in a tail."""

_VIEWS = frozenset(
    FOREIGN_PREFIX + op
    for op in ("Reshape", "Transpose", "Gather", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten")
)
_MAX_SLICES = 16
_MAX_CHAIN = 16

Indices = npt.NDArray[np.int32]


def recognise_shuffle(graph: Graph) -> Graph:
    """Replace the last node of each chain that moves channels only; the rest of it becomes dead code."""
    editor = GraphEditor(graph)
    follower = _Follower(editor)
    for node in editor.each():
        if node.op not in _VIEWS:
            continue
        for position, name in enumerate(node.outputs):
            out = editor.feature_map(name)
            root = follower.root_of(node)
            if out is None or root is None or editor.types[root].shape[0] != 1:
                continue
            indices = follower.indices(node, position)
            new = None if indices is None else _as_selection(name, root, indices, editor)
            if new is None:
                continue
            current = editor.producer(name)
            if current is not None:
                editor.update(current, outputs=["" if other == name else other for other in current.outputs])
            for item in new:
                editor.add(item)
    return editor.finish()


class _Follower:
    """Follows element indices from a map through view ops."""

    def __init__(self, editor: GraphEditor) -> None:
        self._editor = editor
        self._sources: dict[str, tuple[Node, int]] = {}
        for node in editor.each():
            if node.op in _VIEWS:
                for position, name in enumerate(node.outputs):
                    self._sources[name] = (node, position)

    def root_of(self, node: Node) -> str | None:
        """The map at the start of a chain: the first tensor on the way back that no view op makes."""
        name = node.inputs[0]
        for _ in range(_MAX_CHAIN):
            current = self._editor.producer(name)
            if current is None or current.op not in _VIEWS:
                break
            name = current.inputs[0]
        else:
            return None
        found = self._editor.feature_map(name)
        if found is None or np.prod(found.shape) > MAX_ELEMENTS:
            return None
        return name

    def indices(self, node: Node, position: int) -> Indices | None:
        """For each element of an output, its index in the root; None where an op cannot be followed."""
        root = self.root_of(node)
        chain: list[tuple[Node, int]] = [(node, position)]
        while chain[-1][0].inputs[0] != root:
            chain.append(self._sources[chain[-1][0].inputs[0]])
        shape = self._editor.types[chain[-1][0].inputs[0]].shape
        value: npt.NDArray[Any] = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        for step, output in reversed(chain):
            result = _view(step, output, value, self._editor)
            expected = self._editor.types.get(step.outputs[output])
            if result is None or (expected is not None and expected.shape != result.shape):
                return None
            value = result
        return value


def _view(node: Node, position: int, value: npt.NDArray[Any], editor: GraphEditor) -> npt.NDArray[Any] | None:
    kind = node.op.removeprefix(FOREIGN_PREFIX)
    values = [value, *(editor.constants.get(name) for name in node.inputs[1:])]
    if any(name and item is None for name, item in zip(node.inputs, values, strict=True)):
        return None
    try:
        if kind == "Flatten":
            axis = node.attrs.get("axis", 1)
            return value.reshape(int(np.prod(value.shape[:axis])), -1)
        if kind == "Split":
            return _split(node, position, value, values, editor)
        if kind in ("Squeeze", "Unsqueeze") and axes_of(values, node.attrs) is None:
            return None
        return evaluate(kind, values, node.attrs)
    except (ValueError, IndexError, TypeError):
        return None


def _split(
    node: Node,
    position: int,
    value: npt.NDArray[Any],
    values: list[npt.NDArray[Any] | None],
    editor: GraphEditor,
) -> npt.NDArray[Any] | None:
    axis = node.attrs.get("axis", 0)
    sizes = []
    for name in node.outputs:
        found = editor.types.get(name)
        if found is None:
            return None
        sizes.append(found.shape[axis])
    return np.split(value, np.cumsum(sizes)[:-1], axis=axis)[position]


def _as_selection(name: str, root: str, indices: Indices, editor: GraphEditor) -> list[Node] | None:
    """Nodes that take from the root what the indices say, None when they take more than whole channels."""
    height, width = editor.types[root].shape[2:]
    _, _, rows, columns = indices.shape
    area = height * width
    first = indices[0, :, 0, 0].astype(np.int64)
    picked, offset = first // area, first % area
    row_step = int(indices[0, 0, 1, 0] - first[0]) if rows > 1 else width
    column_step = int(indices[0, 0, 0, 1] - first[0]) if columns > 1 else 1
    if row_step < width or row_step % width or column_step < 1:
        return None
    steps = (row_step // width, column_step)
    grid = np.arange(rows)[:, None] * row_step + np.arange(columns)[None, :] * column_step
    if not np.array_equal(indices[0], first[:, None, None] + grid):
        return None
    starts_row, starts_column = offset // width, offset % width
    if starts_column.max() + (columns - 1) * steps[1] >= width:
        return None
    if starts_row.max() + (rows - 1) * steps[0] >= height:
        return None
    label = f"{name}/select"
    if (rows, columns) == (height, width) and not offset.any():
        return [Node(label, "select_channels", (root,), (name,), {"channels": picked})]
    return _as_slices(name, root, (rows, columns), steps, picked, starts_row, starts_column, editor)


def _as_slices(
    name: str,
    root: str,
    size: tuple[int, int],
    steps: tuple[int, int],
    picked: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    editor: GraphEditor,
) -> list[Node] | None:
    """One slice per offset, a concat of them, and the order of the channels where it is another."""
    source = editor.types[root]
    channels = source.shape[1]
    offsets = list(dict.fromkeys(zip(rows.tolist(), columns.tolist(), strict=True)))
    if len(offsets) > _MAX_SLICES:
        return None
    place = {offset: index for index, offset in enumerate(offsets)}
    order = np.asarray(
        [
            place[(row, column)] * channels + channel
            for channel, row, column in zip(picked.tolist(), rows.tolist(), columns.tolist(), strict=True)
        ],
        np.int64,
    )
    nodes: list[Node] = []
    part = TensorType(source.dtype, (1, channels, *size))
    for row, column in offsets:
        made = editor.add_tensor(f"{name}/{row},{column}", part)
        attrs = {"starts": (row, column), "steps": steps}
        nodes.append(Node(f"{name}/slice/{row},{column}", "slice_spatial", (root,), (made,), attrs))
    plain = np.array_equal(order, np.arange(len(offsets) * channels))
    parts = tuple(node.output for node in nodes)
    joined = parts[0]
    if len(parts) > 1:
        whole = TensorType(source.dtype, (1, len(parts) * channels, *size))
        joined = name if plain else editor.add_tensor(f"{name}/joined", whole)
        nodes.append(Node(f"{name}/concat", "concat", parts, (joined,), {"axis": 1}))
    if joined != name:
        nodes.append(Node(f"{name}/select", "select_channels", (joined,), (name,), {"channels": order}))
    return nodes
