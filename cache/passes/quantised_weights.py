"""Weights that a file stores as bytes and dequantises before use: folded to float32, and remembered as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import FOREIGN_PREFIX, Graph, Node

Array = npt.NDArray[Any]

_DEQUANTISE = (f"{FOREIGN_PREFIX}DequantizeLinear", f"{FOREIGN_PREFIX}com.microsoft.DequantizeLinear")


@dataclass(frozen=True, eq=False)
class QuantisedWeights:
    """What a convolution's weights were. scale : float32[Cout]. bias : int32[Cout], None where there is none.

    float_bias : the same as the graph now has it.
    """

    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32] | None
    float_bias: npt.NDArray[np.float32] | None


def fold_quantised_weights(graph: Graph) -> tuple[Graph, Mapping[str, QuantisedWeights]]:
    """A raw graph without DequantizeLinear of constants; and the weights of each Conv that had them, by node name."""
    constants, kept = dict(graph.constants), list[Node]()
    sources: dict[str, Node] = {}
    for node in graph.nodes:
        value = _dequantised(node, graph.constants) if node.op in _DEQUANTISE else None
        if value is None:
            kept.append(node)
        else:
            constants[node.output] = value
            sources[node.output] = node
    found = {}
    for node in kept:
        if node.op == f"{FOREIGN_PREFIX}Conv" and len(node.inputs) > 1 and node.inputs[1] in sources:
            weights = _weights(node, sources, constants)
            if weights is not None:
                found[node.name] = weights
    folded = Graph(graph.name, graph.inputs, graph.outputs, tuple(kept), constants, graph.types, graph.folded)
    return folded, found


def _dequantised(node: Node, constants: Mapping[str, Array]) -> Array | None:
    """float32 of a constant of 8 or 32 bits; None where it is none, or quantised in blocks."""
    names = [name for name in node.inputs if name]
    if any(name not in constants for name in names) or len(names) < 2 or node.attrs.get("block_size"):
        return None
    q, scale = constants[names[0]], constants[names[1]]
    if q.dtype not in (np.int8, np.uint8, np.int32) or scale.dtype != np.float32:
        return None
    zero = constants[names[2]].astype(np.int32) if len(names) > 2 else np.zeros(scale.shape, np.int32)
    axis = int(node.attrs.get("axis", 1))
    if scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(-1)[:1].reshape(())
    elif scale.ndim == 1 and -q.ndim <= axis < q.ndim and q.shape[axis] == scale.size == zero.size:
        shape = [1] * q.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        return None
    return np.asarray((q.astype(np.int64) - zero).astype(np.float32) * scale, np.float32)


def _weights(node: Node, sources: Mapping[str, Node], constants: Mapping[str, Array]) -> QuantisedWeights | None:
    weight = sources[node.inputs[1]]
    scale, outputs = constants[weight.inputs[1]].reshape(-1), constants[node.inputs[1]].shape[0]
    if constants[weight.inputs[0]].dtype == np.int32 or scale.size not in (1, outputs):
        return None
    if scale.size > 1 and int(weight.attrs.get("axis", 1)) % constants[node.inputs[1]].ndim != 0:
        return None
    scale = np.broadcast_to(scale, (outputs,)).astype(np.float32)
    if len(node.inputs) < 3 or not node.inputs[2]:
        return QuantisedWeights(scale, None, None)
    source = sources.get(node.inputs[2])
    if source is None or constants[source.inputs[0]].dtype != np.int32:
        return None
    if len(source.inputs) > 2 and np.any(constants[source.inputs[2]]):
        return None
    return QuantisedWeights(scale, constants[source.inputs[0]], constants[node.inputs[2]])
