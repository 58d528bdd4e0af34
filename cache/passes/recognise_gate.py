"""Finds smooth and hard gates written out in small ops: SiLU, hard-swish and hard-sigmoid.

* x * sigmoid(x) -> silu
* clip(x + 3, 0, 6) / 6 -> hard_sigmoid(1/6, 1/2)
* x * hard_sigmoid(x, 1/6, 1/2), x * clip(x + 3, 0, 6) / 6 in any order of the two last -> hard_swish
"""

from __future__ import annotations

import math

import numpy as np

from cache.graph import IDENTITY, Activation, Graph, Node
from cache.passes.editor import GraphEditor

_HARD = Activation("hard_sigmoid", 1 / 6, 0.5)


def recognise_gate(graph: Graph) -> Graph:
    """Rewrite the spellings above to ``activate``."""
    editor = GraphEditor(graph)
    for rewrite in (_clip_to_hard_sigmoid, _gate, _scaled_gate):
        for node in editor.each():
            rewrite(node, editor)
    return editor.finish()


def _uniform(node: Node) -> tuple[float, float] | None:
    """Scale and shift of an affine that treats all channels alike."""
    if node.op != "affine" or not node.activation.is_identity:
        return None
    scale, shift = node.attrs["scale"], node.attrs["shift"]
    if not ((scale == scale[0]).all() and (shift == shift[0]).all()):
        return None
    return float(scale[0]), float(shift[0])


def _is_close(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9)


def _lifted(node: Node | None, editor: GraphEditor) -> Node | None:
    """The affine x + 3 below a private clip to [0, 6]; None where the node is no such clip."""
    if node is None or node.op != "activate":
        return None
    limits = node.activation
    if limits.kind != "clip" or not _is_close(limits.alpha, 0) or not _is_close(limits.beta, 6):
        return None
    source = editor.producer(node.inputs[0])
    if source is None or _uniform(source) != (1.0, 3.0) or not editor.private(source.output):
        return None
    return source


def _clip_to_hard_sigmoid(node: Node, editor: GraphEditor) -> None:
    """affine(1/6) of clip(x + 3, 0, 6)."""
    scaling = _uniform(node)
    if scaling is None or not (_is_close(scaling[0], 1 / 6) and _is_close(scaling[1], 0)):
        return
    clip = editor.producer(node.inputs[0])
    lift = _lifted(clip, editor)
    if clip is None or lift is None or not editor.private(clip.output):
        return
    editor.remove(clip)
    editor.remove(lift)
    editor.replace(node, _activate(node, lift.inputs[0], _HARD))


def _activate(node: Node, source: str, activation: Activation) -> Node:
    return Node(node.name, "activate", (source,), node.outputs, {"activation": activation})


def _gate(node: Node, editor: GraphEditor) -> None:
    """mul(x, gate(x)) in both orders."""
    if node.op != "mul" or not node.activation.is_identity:
        return
    for x, gated in (node.inputs, node.inputs[::-1]):
        gate = editor.producer(gated)
        if gate is None or gate.op != "activate" or gate.inputs[0] != x or not editor.private(gated):
            continue
        found = _gated(gate.activation)
        if found is not None:
            editor.remove(gate)
            editor.replace(node, _activate(node, x, found))
            return


def _gated(gate: Activation) -> Activation | None:
    if gate.kind == "sigmoid":
        return Activation("silu")
    if gate.kind == "hard_sigmoid" and _is_close(gate.alpha, 1 / 6) and _is_close(gate.beta, 0.5):
        return Activation("hard_swish")
    return None


def _scaled_gate(node: Node, editor: GraphEditor) -> None:
    """affine(1/6) of mul(x, clip(x + 3, 0, 6)); a scale other than 1/6 per channel stays as an affine."""
    product = editor.producer(node.inputs[0]) if node.op == "affine" else None
    if product is None or product.op != "mul" or not product.activation.is_identity:
        return
    if not editor.private(product.output) or not node.activation.is_identity:
        return
    for x, gated in (product.inputs, product.inputs[::-1]):
        clip = editor.producer(gated)
        lift = _lifted(clip, editor)
        if clip is None or lift is None or lift.inputs[0] != x or not editor.private(gated):
            continue
        scaling = _uniform(node)
        editor.remove(clip)
        editor.remove(lift)
        if scaling is not None and _is_close(scaling[0], 1 / 6) and _is_close(scaling[1], 0):
            editor.remove(product)
            editor.replace(node, _activate(node, x, Activation("hard_swish")))
        else:
            # x * clip(x + 3, 0, 6) is six times hard_swish: the affine takes the factor.
            editor.replace(product, _activate(product, x, Activation("hard_swish")))
            six = (node.attrs["scale"].astype(np.float64) * 6).astype(np.float32)
            editor.update(node, scale=six, activation=IDENTITY)
        return
