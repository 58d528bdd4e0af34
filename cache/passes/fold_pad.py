"""Moves an explicit zero Pad into the windowed op that reads it, where the result is the same.

* convolution: always, since it pads with zeros itself
* average pool: where the padded rows count (they did: they were real pixels of its input)
* max pool: where its source is never negative, so that a zero cannot win
"""

from __future__ import annotations

from typing import Any

from cache.graph import Graph, Node
from cache.passes.editor import GraphEditor


def fold_pad(graph: Graph) -> Graph:
    """Fold each reader of each ``pad`` on its own; a pad that nobody reads any more goes."""
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op != "pad":
            continue
        for reader in editor.consumers(node.output):
            _fold(node, reader, editor)
        if node.output not in editor.outputs and not editor.consumers(node.output):
            editor.remove(node)
    return editor.finish()


def _fold(pad: Node, reader: Node, editor: GraphEditor) -> None:
    if reader.op not in ("conv", "avg_pool", "max_pool"):
        return
    pads = tuple(a + b for a, b in zip(pad.attrs["pads"], reader.attrs["pads"], strict=True))
    changes: dict[str, Any] = {"pads": pads}
    if reader.op == "avg_pool":
        if any(reader.attrs["pads"]) and not reader.attrs["count_include_pad"]:
            return
        changes["count_include_pad"] = True
    elif reader.op == "max_pool":
        source = editor.producer(pad.inputs[0])
        if source is None or not source.activation.is_non_negative or not _covers(reader, pads, editor, pad):
            return
    editor.update(reader, inputs=(pad.inputs[0], *reader.inputs[1:]), **changes)


def _covers(pool: Node, pads: tuple[int, ...], editor: GraphEditor, pad: Node) -> bool:
    """Whether every window of the pool still holds a pixel of the map that is not padding."""
    size, out = editor.types[pad.inputs[0]].shape[2:], editor.types[pool.output].shape[2:]
    for axis in range(2):
        kernel, stride = pool.attrs["kernel"][axis], pool.attrs["strides"][axis]
        step = pool.attrs["dilations"][axis]
        for start in range(-pads[axis], out[axis] * stride - pads[axis], stride):
            if not any(0 <= start + tap * step < size[axis] for tap in range(kernel)):
                return False
    return True
