"""Conv, ConvTranspose and BatchNormalization with constant weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cache.graph import IDENTITY, Node
from cache.normal_form.window import Pair, Quad, pair, window_pads, window_size
from cache.passes.editor import GraphEditor


def _weights(node: Node, editor: GraphEditor) -> tuple[str, ...] | None:
    """Inputs (x, w[, b]) when w and b are float32 constants of a two-dimensional convolution."""
    inputs = tuple(name for name in node.inputs if name)
    if len(inputs) not in (2, 3) or editor.feature_map(inputs[0]) is None:
        return None
    for name in inputs[1:]:
        if name not in editor.constants or editor.constants[name].dtype != np.float32:
            return None
    w = editor.constants[inputs[1]]
    kernel = node.attrs.get("kernel_shape", w.shape[2:])
    if w.ndim != 4 or 0 in w.shape or tuple(kernel) != w.shape[2:]:
        return None
    return inputs


def conv(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Conv -> conv."""
    inputs, out = _weights(node, editor), editor.feature_map(node.output)
    strides, dilations = pair(node, "strides", 1), pair(node, "dilations", 1)
    if inputs is None or out is None or strides is None or dilations is None:
        return None
    shape, w = editor.types[inputs[0]].shape, editor.constants[inputs[1]].shape
    size, kernel = (shape[2], shape[3]), (w[2], w[3])
    pads = window_pads(node, size, kernel, strides, dilations)
    groups = int(node.attrs.get("group", 1))
    if pads is None or groups < 1 or w[1] * groups != shape[1] or w[0] % groups or out.shape[1] != w[0]:
        return None
    if window_size(size, kernel, strides, pads, dilations) != out.shape[2:]:
        return None
    attrs = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "groups": groups,
        "activation": IDENTITY,
    }
    return [Node(node.name, "conv", inputs, node.outputs[:1], attrs)]


def conv_transpose(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """ConvTranspose -> conv_transpose, with pads worked out from output_shape or auto_pad."""
    inputs, out = _weights(node, editor), editor.feature_map(node.output)
    strides, dilations = pair(node, "strides", 1), pair(node, "dilations", 1)
    extra = pair(node, "output_padding", 0)
    if inputs is None or out is None or strides is None or dilations is None or extra is None:
        return None
    shape, w = editor.types[inputs[0]].shape, editor.constants[inputs[1]].shape
    groups = int(node.attrs.get("group", 1))
    if groups < 1 or w[0] != shape[1] or w[0] % groups or out.shape[1] != w[1] * groups:
        return None
    full = (
        (shape[2] - 1) * strides[0] + (w[2] - 1) * dilations[0] + 1 + extra[0],
        (shape[3] - 1) * strides[1] + (w[3] - 1) * dilations[1] + 1 + extra[1],
    )
    pads = _transpose_pads(node, full, (out.shape[2], out.shape[3]))
    if pads is None or any(full[i] - pads[i] - pads[i + 2] != out.shape[2 + i] for i in range(2)):
        return None
    attrs = {
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "groups": groups,
        "output_padding": extra,
        "activation": IDENTITY,
    }
    return [Node(node.name, "conv_transpose", inputs, node.outputs[:1], attrs)]


def _transpose_pads(node: Node, full: Pair, size: Pair) -> Quad | None:
    """Pads of a transposed convolution whose result without pads is ``full`` and which makes ``size``."""
    mode = node.attrs.get("auto_pad", "NOTSET") or "NOTSET"
    if mode in ("NOTSET", "VALID") and "output_shape" not in node.attrs:
        pads = tuple(int(item) for item in node.attrs.get("pads", (0, 0, 0, 0)))
        if mode == "VALID":
            return 0, 0, 0, 0
        return (pads[0], pads[1], pads[2], pads[3]) if len(pads) == 4 and min(pads) >= 0 else None
    before, after = [], []
    for i in range(2):
        total = full[i] - size[i]
        if total < 0:
            return None
        small = total // 2
        before.append(small if mode == "SAME_UPPER" else total - small)
        after.append(total - small if mode == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def batch_normalisation(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """BatchNormalization in inference -> affine."""
    x = editor.feature_map(node.inputs[0])
    values = [editor.constants.get(name) for name in node.inputs[1:5]]
    if x is None or len(values) != 4 or any(name and editor.consumers(name) for name in node.outputs[1:]):
        return None
    if node.attrs.get("training_mode", 0) or not node.attrs.get("spatial", 1):
        return None
    if editor.outputs.intersection(node.outputs[1:]):
        return None
    parts = [value.astype(np.float64) for value in values if value is not None]
    if len(parts) != 4 or any(part.shape != (x.shape[1],) for part in parts):
        return None
    gamma, beta, mean, variance = parts
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
        shift = beta - mean * scale
        scale, shift = scale.astype(np.float32), shift.astype(np.float32)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    attrs = {
        "scale": scale,
        "shift": shift,
        "activation": IDENTITY,
    }
    return [Node(node.name, "affine", node.inputs[:1], node.outputs[:1], attrs)]


RULES: Mapping[str, Callable[[Node, GraphEditor, int], list[Node] | None]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "BatchNormalization": batch_normalisation,
}
