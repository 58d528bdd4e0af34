"""Add, Sub, Mul, Div, Max, Min, Sum, Neg: between two maps, or a map and constants per channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import IDENTITY, Node, TensorType
from cache.normal_form.activations import clip_activation
from cache.passes.editor import GraphEditor

_OPS = {"Add": "add", "Sum": "add", "Sub": "sub", "Mul": "mul", "Max": "max", "Min": "min"}


def _eltwise(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Two maps -> add, sub, mul, max or min; a map and a constant -> affine or activate; more -> a chain."""
    kind = node.op.rpartition(".")[2]
    inputs = [name for name in node.inputs if name]
    out = editor.feature_map(node.output)
    if out is None or len(inputs) != len(node.inputs):
        return None
    if len(inputs) == 1 and editor.feature_map(inputs[0]) == out:
        return [Node(node.name, "activate", tuple(inputs), node.outputs, {"activation": IDENTITY})]
    if len(inputs) > 2:
        return _chain(node, inputs, editor, out)
    if len(inputs) != 2:
        return None
    if any(name in editor.constants for name in inputs):
        return _with_constant(node, kind, inputs, editor, out)
    return _two(node.name, kind, inputs, node.outputs, editor, out)


def _two(
    name: str,
    kind: str,
    inputs: Sequence[str],
    outputs: tuple[str, ...],
    editor: GraphEditor,
    out: TensorType,
) -> list[Node] | None:
    if kind not in _OPS:
        return None
    x, y = inputs
    if editor.feature_map(x) != out and kind != "Sub":
        x, y = y, x
    x_type, y_type = editor.feature_map(x), editor.feature_map(y)
    if x_type != out or y_type is None or y_type.shape not in (out.shape, (1, out.shape[1], 1, 1)):
        return None
    return [Node(name, _OPS[kind], (x, y), outputs, {"activation": IDENTITY})]


def _chain(node: Node, inputs: Sequence[str], editor: GraphEditor, out: TensorType) -> list[Node] | None:
    """Max, Min or Sum of many maps of one shape, from the left."""
    kind = node.op.rpartition(".")[2]
    if any(editor.feature_map(name) != out for name in inputs):
        return None
    nodes: list[Node] = []
    left = inputs[0]
    for index, right in enumerate(inputs[1:], 1):
        last = index == len(inputs) - 1
        target = node.output if last else editor.add_tensor(f"{node.output}/{index}", out)
        attrs = {"activation": IDENTITY}
        nodes.append(Node(node.name if last else f"{node.name}/{index}", _OPS[kind], (left, right), (target,), attrs))
        left = target
    return nodes


def per_channel(value: npt.NDArray[Any], channels: int) -> npt.NDArray[np.float64] | None:
    """A constant that is one number per channel (or one for all) as float64[channels]; None otherwise."""
    if value.dtype != np.float32 or value.ndim > 4:
        return None
    shape = (1,) * (4 - value.ndim) + value.shape
    if shape[0] != 1 or shape[2:] != (1, 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.float64), (channels,)).copy()


def _with_constant(
    node: Node, kind: str, inputs: Sequence[str], editor: GraphEditor, out: TensorType
) -> list[Node] | None:
    first = inputs[0] in editor.constants
    x, constant = (inputs[1], inputs[0]) if first else (inputs[0], inputs[1])
    if x in editor.constants or editor.feature_map(x) != out:
        return None
    value = per_channel(editor.constants[constant], out.shape[1])
    if value is None:
        return None
    if kind in ("Max", "Min"):
        if not (value == value[0]).all():
            return None
        bounds = (float(value[0]), math.inf) if kind == "Max" else (-math.inf, float(value[0]))
        activation = clip_activation(*bounds)
        if activation is None:
            return None
        return [Node(node.name, "activate", (x,), node.outputs, {"activation": activation})]
    one, zero = np.ones_like(value), np.zeros_like(value)
    with np.errstate(all="ignore"):
        terms = {
            "Add": (one, value),
            "Sum": (one, value),
            "Sub": (-one, value) if first else (one, -value),
            "Mul": (value, zero),
            "Div": None if first else (1.0 / value, zero),
        }[kind]
        if terms is None or not all(np.isfinite(term.astype(np.float32)).all() for term in terms):
            return None
    return [_affine(node, x, *terms)]


def _affine(node: Node, x: str, scale: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> Node:
    attrs = {
        "scale": scale.astype(np.float32),
        "shift": shift.astype(np.float32),
        "activation": IDENTITY,
    }
    return Node(node.name, "affine", (x,), node.outputs, attrs)


def _negate(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Neg -> affine."""
    x = editor.feature_map(node.inputs[0])
    if x is None:
        return None
    return [_affine(node, node.inputs[0], -np.ones(x.shape[1]), np.zeros(x.shape[1]))]


RULES: Mapping[str, Callable[[Node, GraphEditor, int], list[Node] | None]] = {
    **dict.fromkeys((*_OPS, "Div"), _eltwise),
    "Neg": _negate,
}
