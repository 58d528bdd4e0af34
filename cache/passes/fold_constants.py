"""Gives every tensor its type and turns what is known before the first frame into constants.

One walk does both, since each needs the other: a shape is read by a Shape op, reckoned with, and given to a
Reshape, whose result then has a shape. Knows ONNX op names, but not onnx: types and values of ops that
NumPy code here does not cover come from the ``Typer`` handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cache.evaluate import MAX_ELEMENTS, TooLarge, evaluate
from cache.graph import FOREIGN_PREFIX, Graph, Node, TensorType

Array = npt.NDArray[Any]

MAX_FOLDED_BYTES = 256 << 20
"""Folding stops when the constants it made are this large together."""

_NEVER = frozenset(
    FOREIGN_PREFIX + op
    for op in (
        "If",
        "Loop",
        "Scan",
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    )
)


class Typer(Protocol):
    """What the fold needs from whoever knows ONNX."""

    def infer(self, node: Node, constants: Mapping[str, Array]) -> Mapping[str, TensorType]:
        """Types of the outputs of a node whose inputs were inferred before; only the concrete ones.

        Raises ValueError when the node cannot run on these inputs.
        """

    def declare(self, name: str, tensor_type: TensorType) -> None:
        """Tell the type of a tensor that no ``infer`` call made."""

    def evaluate(self, node: Node, values: Sequence[Array | None]) -> Sequence[Array] | None:
        """Run one node on constants; None when it cannot."""


def fold_constants(graph: Graph, typer: Typer) -> Graph:
    """Infer types and fold; nodes left are those whose results depend on the pixels of the input."""
    constants = dict(graph.constants)
    types = dict(graph.types)
    for name, tensor_type in types.items():
        typer.declare(name, tensor_type)
    for name, value in constants.items():
        typer.declare(name, TensorType(value.dtype, value.shape))
    from_input = set(graph.inputs)
    folded: dict[str, Array] = dict(graph.folded)
    kept: list[Node] = []
    budget = MAX_FOLDED_BYTES
    for node in graph.nodes:
        depends = not from_input.isdisjoint(node.inputs)
        if depends:
            from_input.update(node.outputs)
        inferred: Mapping[str, TensorType] | None = None
        values: Sequence[Array] | None = _shape_query(node, types) or _fold(node, constants)
        if values is None:
            inferred = typer.infer(node, constants)
            values = _fold_by(typer, node, constants, inferred)
        if values is None or sum(value.nbytes for value in values) > budget:
            types.update(typer.infer(node, constants) if inferred is None else inferred)
            kept.append(node)
            continue
        budget -= sum(value.nbytes for value in values)
        for name, value in zip(node.outputs, values, strict=False):
            if name:
                constants[name] = value
                typer.declare(name, TensorType(value.dtype, value.shape))
                if depends:
                    folded[name] = value
    return Graph(graph.name, graph.inputs, graph.outputs, tuple(kept), constants, types, folded)


def _shape_query(node: Node, types: Mapping[str, TensorType]) -> list[Array] | None:
    """Shape and Size of a tensor whose type is known, though its values are not."""
    if node.op not in (f"{FOREIGN_PREFIX}Shape", f"{FOREIGN_PREFIX}Size") or node.inputs[0] not in types:
        return None
    shape = np.asarray(types[node.inputs[0]].shape, np.int64)
    if node.op == f"{FOREIGN_PREFIX}Size":
        return [np.asarray(shape.prod(dtype=np.int64), np.int64)]
    return [shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))]]


def _values(node: Node, constants: Mapping[str, Array]) -> list[Array | None] | None:
    if node.op in _NEVER or any(name and name not in constants for name in node.inputs):
        return None
    return [constants[name] if name else None for name in node.inputs]


def _fold(node: Node, constants: Mapping[str, Array]) -> list[Array] | None:
    values = _values(node, constants)
    if values is None or len(node.outputs) != 1:
        return None
    if node.op == f"{FOREIGN_PREFIX}Shape" and values[0] is not None:
        shape = np.asarray(values[0].shape, np.int64)
        return [shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))]]
    try:
        result = evaluate(node.op.removeprefix(FOREIGN_PREFIX), values, node.attrs)
    except (TooLarge, ValueError, IndexError, TypeError, ArithmeticError):
        return None
    return None if result is None else [result]


def _fold_by(
    typer: Typer, node: Node, constants: Mapping[str, Array], inferred: Mapping[str, TensorType]
) -> Sequence[Array] | None:
    """Fold with the caller's evaluator, only where the size of the result is known to be small."""
    values = _values(node, constants)
    if values is None:
        return None
    for name in node.outputs:
        if name and (name not in inferred or np.prod(inferred[name].shape, dtype=np.float64) > MAX_ELEMENTS):
            return None
    return typer.evaluate(node, values)
