"""Folds space-to-depth (every s-th pixel, side by side as channels) into the convolution that reads it.

YOLOX's Focus takes four slices of the image at step 2, concatenates them and convolves: that is one
convolution of the image itself with twice the kernel and stride, its weights put in another order.
"""

from __future__ import annotations

import numpy as np

from cache.graph import Graph, Node
from cache.passes.editor import GraphEditor


def space_to_depth(graph: Graph) -> Graph:
    """Join chains of slices, then fold each full set of slices into its convolution."""
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op == "slice_spatial":
            _join_slices(node, editor)
    for node in editor.each():
        if node.op == "conv":
            _fold(node, editor)
    return editor.finish()


def _join_slices(node: Node, editor: GraphEditor) -> None:
    """A slice of a slice is one slice; the inner one goes when nobody else reads it."""
    inner = editor.producer(node.inputs[0])
    if inner is None or inner.op != "slice_spatial":
        return
    starts = tuple(
        first + step * second
        for first, step, second in zip(inner.attrs["starts"], inner.attrs["steps"], node.attrs["starts"], strict=True)
    )
    steps = tuple(a * b for a, b in zip(inner.attrs["steps"], node.attrs["steps"], strict=True))
    editor.update(node, inputs=inner.inputs, starts=starts, steps=steps)
    if not editor.consumers(inner.output) and inner.output not in editor.outputs:
        editor.remove(inner)


def _fold(conv: Node, editor: GraphEditor) -> None:
    concat = editor.producer(conv.inputs[0])
    if concat is None or concat.op != "concat" or not editor.private(concat.output):
        return
    if conv.attrs["groups"] != 1 or conv.attrs["dilations"] != (1, 1):
        return
    slices = [editor.producer(name) for name in concat.inputs]
    parts = [node for node in slices if node is not None and node.op == "slice_spatial"]
    if len(parts) != len(slices) or len({node.inputs[0] for node in parts}) != 1:
        return
    steps = parts[0].attrs["steps"]
    source = parts[0].inputs[0]
    starts = [node.attrs["starts"] for node in parts]
    wanted = {(row, column) for row in range(steps[0]) for column in range(steps[1])}
    if any(node.attrs["steps"] != steps for node in parts) or len(parts) != len(wanted):
        return
    shape, reduced = editor.types[source].shape, editor.types[concat.output].shape
    if set(starts) != wanted or any(shape[2 + i] != reduced[2 + i] * steps[i] for i in range(2)):
        return
    w = editor.constants[conv.inputs[1]]
    channels, kernel = shape[1], (w.shape[2], w.shape[3])
    spread = np.zeros((w.shape[0], channels, kernel[0] * steps[0], kernel[1] * steps[1]), np.float32)
    for index, (row, column) in enumerate(starts):
        part = w[:, index * channels : (index + 1) * channels]
        spread[:, :, row :: steps[0], column :: steps[1]] = part
    name = editor.add_constant(f"{conv.name}/spread", spread)
    strides, pads = conv.attrs["strides"], conv.attrs["pads"]
    editor.update(
        conv,
        inputs=(source, name, *conv.inputs[2:]),
        strides=(strides[0] * steps[0], strides[1] * steps[1]),
        pads=tuple(pads[i] * steps[i % 2] for i in range(4)),
    )
    editor.remove(concat)
    for node in parts:
        if not editor.consumers(node.output) and node.output not in editor.outputs:
            editor.remove(node)
