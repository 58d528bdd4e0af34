"""Drops copies: an ``activate`` that applies the identity, a selection of every channel in order."""

from __future__ import annotations

import numpy as np

from cache.graph import Graph, Node
from cache.passes.editor import GraphEditor


def remove_identity(graph: Graph) -> Graph:
    """Let the readers of a copy read its source.

    A copy that is an output takes its source's place, unless the source is the input, an output too, or has
    other readers: then the copy stays. (A tail is cut out of the file, where those readers know the source.)
    """
    editor = GraphEditor(graph)
    for node in editor.each():
        if _is_copy(node, editor):
            _bypass(node, editor)
    return editor.finish()


def _is_copy(node: Node, editor: GraphEditor) -> bool:
    if node.op == "activate":
        return node.activation.is_identity
    if node.op != "select_channels":
        return False
    channels = node.attrs["channels"]
    return bool(np.array_equal(channels, np.arange(editor.types[node.inputs[0]].shape[1])))


def _bypass(node: Node, editor: GraphEditor) -> None:
    source, copy = node.inputs[0], node.output
    if copy not in editor.outputs:
        editor.rewire(copy, source)
        editor.remove(node)
        return
    producer = editor.producer(source)
    if producer is None or not editor.private(source):
        return
    editor.remove(node)
    editor.update(producer, outputs=[copy if name == source else name for name in producer.outputs])
    editor.rewire(source, copy)
