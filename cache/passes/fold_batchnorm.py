"""Folds per-channel scale and shift (BatchNormalization, or written out) into convolutions and each other.

After a convolution this is always exact. Before one it is exact only where padding is not seen: a zero that
the convolution pads with is not shifted, so a shift may pass only where there is no padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import CONV_OPS, Graph, Node
from cache.passes.editor import GraphEditor

Array = npt.NDArray[Any]


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold every ``affine`` that can be, following the graph's order."""
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op != "affine":
            continue
        producer = editor.producer(node.inputs[0])
        if producer is None or not producer.activation.is_identity or not editor.private(node.inputs[0]):
            continue
        if producer.op in CONV_OPS:
            _fold_after_conv(producer, node, editor)
        elif producer.op == "affine":
            _merge(producer, node, editor)
    for node in editor.each():
        if node.op == "conv":
            producer = editor.producer(node.inputs[0])
            if producer is not None and producer.op == "affine" and producer.activation.is_identity:
                _fold_before_conv(producer, node, editor)
    return editor.finish()


def _parts(node: Node) -> tuple[Array, Array]:
    return node.attrs["scale"].astype(np.float64), node.attrs["shift"].astype(np.float64)


def _store(conv: Node, editor: GraphEditor, w: Array, b: Array) -> tuple[str, str] | None:
    """New weights and bias as float32 constants; None when they leave its range."""
    with np.errstate(all="ignore"):
        w32, b32 = np.ascontiguousarray(w, np.float32), np.ascontiguousarray(b, np.float32)
    if not (np.isfinite(w32).all() and np.isfinite(b32).all()):
        return None
    return editor.add_constant(f"{conv.name}/w", w32), editor.add_constant(f"{conv.name}/b", b32)


def _bias(conv: Node, editor: GraphEditor, channels: int) -> Array:
    if len(conv.inputs) == 3:
        return editor.constants[conv.inputs[2]].astype(np.float64)
    return np.zeros(channels)


def _fold_after_conv(conv: Node, affine: Node, editor: GraphEditor) -> None:
    scale, shift = _parts(affine)
    w = editor.constants[conv.inputs[1]].astype(np.float64)
    if conv.op == "conv":
        scaled = w * scale[:, None, None, None]
    else:
        groups = conv.attrs["groups"]
        grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        scaled = (grouped * scale.reshape(groups, 1, w.shape[1], 1, 1)).reshape(w.shape)
    names = _store(conv, editor, scaled, _bias(conv, editor, len(scale)) * scale + shift)
    if names is None:
        return
    editor.remove(affine)
    editor.update(
        conv,
        inputs=(conv.inputs[0], *names),
        outputs=affine.outputs,
        activation=affine.activation,
    )


def _merge(first: Node, second: Node, editor: GraphEditor) -> None:
    scale, shift = _parts(first)
    outer_scale, outer_shift = _parts(second)
    with np.errstate(all="ignore"):
        merged = (
            (scale * outer_scale).astype(np.float32),
            (shift * outer_scale + outer_shift).astype(np.float32),
        )
    if not all(np.isfinite(part).all() for part in merged):
        return
    editor.remove(first)
    editor.update(second, inputs=first.inputs, scale=merged[0], shift=merged[1])


def _fold_before_conv(affine: Node, conv: Node, editor: GraphEditor) -> None:
    scale, shift = _parts(affine)
    if not editor.private(affine.output) or (any(conv.attrs["pads"]) and shift.any()):
        return
    w = editor.constants[conv.inputs[1]].astype(np.float64)
    groups = conv.attrs["groups"]
    out_per_group, in_per_group = w.shape[0] // groups, w.shape[1]
    per_group = (groups, 1, in_per_group, 1, 1)
    grouped = w.reshape(groups, out_per_group, in_per_group, *w.shape[2:])
    moved = (grouped * shift.reshape(per_group)).sum(axis=(2, 3, 4)).reshape(-1)
    scaled = (grouped * scale.reshape(per_group)).reshape(w.shape)
    names = _store(conv, editor, scaled, _bias(conv, editor, w.shape[0]) + moved)
    if names is None:
        return
    editor.remove(affine)
    editor.update(conv, inputs=(affine.inputs[0], *names))
