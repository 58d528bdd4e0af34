"""As `space_to_depth`, for a convolution of bytes: the slices are quantised one by one, alike."""

from __future__ import annotations

import numpy as np

from cache.graph import Graph, Node, TensorType
from cache.passes.editor import GraphEditor


def space_to_depth_bytes(graph: Graph) -> Graph:
    """Quantise the image once, and fold each full set of its slices into the convolution."""
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op == "q_conv":
            _fold(node, editor)
    return editor.finish()


def _fold(conv: Node, editor: GraphEditor) -> None:
    found = _slices(conv, editor)
    if found is None:
        return
    concat, parts, slices = found
    source, steps = slices[0].inputs[0], slices[0].attrs["steps"]
    shape, reduced = editor.types[source].shape, editor.types[concat.output]
    starts = [node.attrs["starts"] for node in slices]
    wanted = {(row, column) for row in range(steps[0]) for column in range(steps[1])}
    alike = all(node.attrs["steps"] == steps and node.inputs[0] == source for node in slices)
    if not alike or len(slices) != len(wanted) or set(starts) != wanted:
        return
    if any(shape[2 + i] != reduced.shape[2 + i] * steps[i] for i in range(2)):
        return
    w, channels = editor.constants[conv.inputs[1]], shape[1]
    spread = np.zeros((w.shape[0], channels, w.shape[2] * steps[0], w.shape[3] * steps[1]), np.int8)
    for index, (row, column) in enumerate(starts):
        spread[:, :, row :: steps[0], column :: steps[1]] = w[:, index * channels : (index + 1) * channels]
    image = editor.add_tensor(f"{conv.name}/image", TensorType(reduced.dtype, shape))
    name = editor.add_constant(f"{conv.name}/spread", spread)
    pads = conv.attrs["pads"]
    editor.update(
        conv,
        inputs=(image, name, *conv.inputs[2:]),
        strides=tuple(conv.attrs["strides"][i] * steps[i] for i in range(2)),
        pads=tuple(pads[i] * steps[i % 2] for i in range(4)),
    )
    for node in (concat, *parts, *slices):
        editor.remove(node)
    editor.add(Node(parts[0].name, "quantise", (source,), (image,), parts[0].attrs))


def _slices(conv: Node, editor: GraphEditor) -> tuple[Node, list[Node], list[Node]] | None:
    """The concat, the quantise nodes and the slices that nothing but this convolution needs."""
    if conv.attrs["groups"] != 1 or conv.attrs["dilations"] != (1, 1):
        return None
    concat = editor.producer(conv.inputs[0])
    if concat is None or concat.op != "q_concat" or not editor.private(concat.output):
        return None
    parts = [editor.producer(name) for name in concat.inputs]
    quantises = [node for node in parts if node is not None and node.op == "quantise"]
    if len(quantises) != len(parts) or any(node.attrs != quantises[0].attrs for node in quantises):
        return None
    if quantises[0].attrs["table"] is not None:
        return None
    sources = [editor.producer(node.inputs[0]) for node in quantises]
    slices = [node for node in sources if node is not None and node.op == "slice_spatial"]
    private = all(editor.private(node.output) for node in (*quantises, *slices))
    return (concat, quantises, slices) if len(slices) == len(quantises) and private else None
