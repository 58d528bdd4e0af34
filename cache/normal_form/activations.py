"""Pointwise functions of one tensor: each becomes an activation, to be fused later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from cache.graph import IDENTITY, Activation, Node
from cache.passes.editor import GraphEditor

Found = Activation | None


def _relu(node: Node, editor: GraphEditor, channels: int) -> Found:
    return Activation("relu")


def _leaky_relu(node: Node, editor: GraphEditor, channels: int) -> Found:
    return Activation("leaky_relu", alpha=float(node.attrs.get("alpha", 0.01)))


def _sigmoid(node: Node, editor: GraphEditor, channels: int) -> Found:
    return Activation("sigmoid")


def _hard_sigmoid(node: Node, editor: GraphEditor, channels: int) -> Found:
    return Activation("hard_sigmoid", float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5)))


def _hard_swish(node: Node, editor: GraphEditor, channels: int) -> Found:
    return Activation("hard_swish")


def _identity(node: Node, editor: GraphEditor, channels: int) -> Found:
    return IDENTITY


def _clip(node: Node, editor: GraphEditor, channels: int) -> Found:
    """Bounds are attributes up to opset 10 and optional inputs after; a missing one is infinite."""
    low: float | None = float(node.attrs.get("min", -math.inf))
    high: float | None = float(node.attrs.get("max", math.inf))
    if len(node.inputs) > 1 and node.inputs[1]:
        low = editor.scalar(node.inputs[1])
    if len(node.inputs) > 2 and node.inputs[2]:
        high = editor.scalar(node.inputs[2])
    return None if low is None or high is None else clip_activation(low, high)


def clip_activation(low: float, high: float) -> Found:
    """The activation that limits to [low, high]; None when the limits are not in order."""
    if math.isnan(low) or math.isnan(high) or low > high:
        return None
    limit = float(np.finfo(np.float32).max)
    low, high = (-math.inf if low <= -limit else low), (math.inf if high >= limit else high)
    if low == 0 and high == math.inf:
        return Activation("relu")
    return IDENTITY if (low, high) == (-math.inf, math.inf) else Activation("clip", low, high)


def _prelu(node: Node, editor: GraphEditor, channels: int) -> Found:
    slope = editor.constants.get(node.inputs[1])
    if slope is None or slope.dtype != np.float32:
        return None
    if slope.size == 1:
        return Activation("leaky_relu", alpha=float(slope.reshape(-1)[0]))
    # The slope broadcasts from the right, so per channel is (C, 1, 1) or (1, C, 1, 1).
    if slope.ndim not in (3, 4) or slope.shape[-3:] != (channels, 1, 1) or slope.size != channels:
        return None
    return Activation("prelu", slope=np.ascontiguousarray(slope.reshape(-1)))


def _cast(node: Node, editor: GraphEditor, channels: int) -> Found:
    return IDENTITY if node.attrs.get("to") == np.float32 else None


def _dropout(node: Node, editor: GraphEditor, channels: int) -> Found:
    if any(name and (editor.consumers(name) or name in editor.outputs) for name in node.outputs[1:]):
        return None
    if len(node.inputs) > 2 and node.inputs[2]:
        return IDENTITY if editor.scalar(node.inputs[2]) == 0 else None
    return IDENTITY


def _rule(
    find: Callable[[Node, GraphEditor, int], Found],
) -> Callable[[Node, GraphEditor, int], list[Node] | None]:
    def rule(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
        """One pointwise function -> activate."""
        x, out = editor.feature_map(node.inputs[0]), editor.feature_map(node.output)
        if x is None or out is None or x.shape != out.shape:
            return None
        found = find(node, editor, x.shape[1])
        if found is None:
            return None
        return [Node(node.name, "activate", node.inputs[:1], node.outputs[:1], {"activation": found})]

    return rule


RULES: Mapping[str, Callable[[Node, GraphEditor, int], list[Node] | None]] = {
    "Relu": _rule(_relu),
    "LeakyRelu": _rule(_leaky_relu),
    "PRelu": _rule(_prelu),
    "Sigmoid": _rule(_sigmoid),
    "HardSigmoid": _rule(_hard_sigmoid),
    "HardSwish": _rule(_hard_swish),
    "Clip": _rule(_clip),
    "Identity": _rule(_identity),
    "Dropout": _rule(_dropout),
    "Cast": _rule(_cast),
}
