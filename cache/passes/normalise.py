"""Turns foreign nodes into the normal form where a rule of ``cache.normal_form`` is exact."""

from __future__ import annotations

from collections.abc import Collection

from cache.graph import FOREIGN_PREFIX, Graph
from cache.normal_form import RULES
from cache.passes.editor import GraphEditor


def normalise(graph: Graph, opset: int, too_new: Collection[str] = ()) -> Graph:
    """Apply the rules. ``too_new`` names ONNX ops whose definition in this file the rules do not know."""
    editor = GraphEditor(graph)
    for node in editor.each():
        kind = node.op.removeprefix(FOREIGN_PREFIX)
        rule = RULES.get(kind)
        if rule is None or kind in too_new:
            continue
        new = rule(node, editor, opset)
        if new is not None:
            editor.replace(node, *new)
    return editor.finish()
