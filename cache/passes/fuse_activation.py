"""Moves an activation into the op that makes its input: a plan tests and writes once per fused node."""

from __future__ import annotations

from cache.graph import FUSING_OPS, Graph
from cache.passes.editor import GraphEditor


def fuse_activation(graph: Graph) -> Graph:
    """Fuse every ``activate`` whose source only it reads."""
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op != "activate":
            continue
        producer = editor.producer(node.inputs[0])
        if producer is None or producer.op not in FUSING_OPS or not producer.activation.is_identity:
            continue
        if not editor.private(node.inputs[0]):
            continue
        editor.remove(node)
        editor.update(producer, outputs=node.outputs, activation=node.activation)
    return editor.finish()
