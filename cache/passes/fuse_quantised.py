"""Turns dequantise, an op in float32, quantise into one op on bytes, and functions of one byte into tables.

A float op stays where no exact integer form is known, or where something else reads its float result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cache.graph import IDENTITY, TABLE_OPS, Graph, Node, TensorType
from cache.normal_form.quantised import combination_node, dequantise_node, lookup_node, q_conv_node, scaled_conv
from cache.passes.editor import GraphEditor
from cache.passes.quantised_weights import QuantisedWeights
from cache.quantisation import Quantisation, apply, lookup_table, product_table, quantised_range

_MOVES = {
    "max_pool": "q_max_pool", "resize": "q_resize", "concat": "q_concat", "select_channels": "q_select",
    "slice_spatial": "q_slice",
}  # fmt: skip
_EVERY = np.arange(256, dtype=np.uint8)
_NEAR = 1e-3
"""A weight over its scale is a whole number up to this; what other passes scaled is not."""


def fuse_quantised(graph: Graph, weights: Mapping[str, QuantisedWeights]) -> Graph:
    """Fuse from the inputs on; leaves dead code.

    weights : of convolutions whose weights the file stores as bytes, by node name.
    """
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op == "quantise":
            _fuse(node, editor, weights)
        elif node.op in _MOVES:
            _move_first(node, editor)
    return editor.finish()


def fuse_tables(graph: Graph) -> Graph:
    """Make one table of each chain of functions of one byte, and put it into the op before it. Wants no dead code."""
    editor = GraphEditor(graph)
    for node in editor.each():
        if node.op == "q_mul":
            _product_of_one(node, editor)
    for node in editor.each():
        if node.op == "q_lookup":
            _join_lookup(node, editor)
    return editor.finish()


def quantisation_of(node: Node, editor: GraphEditor) -> Quantisation:
    """What the bytes of a quantise or dequantise node stand for."""
    name = node.output if node.op == "quantise" else node.inputs[0]
    return Quantisation(editor.types[name].dtype, node.attrs["scale"], node.attrs["zero_point"])


def _sources(node: Node, editor: GraphEditor) -> list[Node] | None:
    """The dequantise nodes that make all computed inputs; None where something else makes one."""
    found = []
    for name in node.inputs:
        if name in editor.constants:
            continue
        producer = editor.producer(name)
        if producer is None or producer.op != "dequantise":
            return None
        found.append(producer)
    return found


def _fuse(node: Node, editor: GraphEditor, weights: Mapping[str, QuantisedWeights]) -> None:
    """Fuse what makes the input of a quantise node with it."""
    source = node.inputs[0]
    op = editor.producer(source)
    if op is None or node.attrs["table"] is not None:
        return
    target = quantisation_of(node, editor)
    if op.op == "dequantise":
        _requantise(node, op, editor, target)
        return
    inputs = _sources(op, editor)
    if not inputs or not editor.private(source):
        return
    found = [quantisation_of(item, editor) for item in inputs]
    names = [item.inputs[0] for item in inputs]
    made: list[Node] | None = None
    if op.op == "conv" and op.name in weights:
        made = _convolution(op, node.output, names[0], editor, weights[op.name], found[0], target)
    elif op.op in ("add", "mul") and len(inputs) == 2:
        made = _combination(op, node.output, names, found, target)
    elif op.op == "activate" and apply(op.activation, np.zeros(1, np.float32)) is not None:
        made = [lookup_node(op.name, names[0], node.output, lookup_table(found[0], op.activation, target))]
    elif op.op == "concat" and len(inputs) == len(op.inputs):
        made = _concat(op, node, names, editor, found, target)
    if made is not None:
        editor.remove(node)
        editor.replace(op, *made)


def _requantise(node: Node, op: Node, editor: GraphEditor, target: Quantisation) -> None:
    """Bytes to other bytes: nothing, or a table."""
    x, found = op.inputs[0], quantisation_of(op, editor)
    if found == target and node.output not in editor.outputs:
        editor.rewire(node.output, x)
        editor.remove(node)
    else:
        editor.replace(node, lookup_node(node.name, x, node.output, lookup_table(found, IDENTITY, target)))


def _limits(op: Node, target: Quantisation) -> tuple[int, int] | None:
    """The smallest and largest value that the op's activation lets through; None for one that does more."""
    if op.activation.is_identity:
        return quantised_range(target.dtype)
    if op.activation.kind not in ("relu", "clip"):
        return None
    with np.errstate(over="ignore"):
        ends = apply(op.activation, np.array([-np.inf, np.inf], np.float32))
    assert ends is not None
    low, high = target.quantise(ends)
    return int(low), int(high)


def _whole(w: npt.NDArray[np.float32], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.int8] | None:
    """The int8 weights behind float32 ones; None where they are no whole multiples of their scales, or do not fit."""
    ratio = w / scale.reshape(-1, 1, 1, 1)
    whole = np.rint(ratio)
    if not np.all(np.abs(ratio - whole) <= _NEAR) or whole.min(initial=0) < -128 or whole.max(initial=0) > 127:
        return None
    return np.asarray(whole, np.int8)


def _convolution(
    op: Node, out: str, x: str, editor: GraphEditor, weights: QuantisedWeights, source: Quantisation,
    target: Quantisation,
) -> list[Node] | None:  # fmt: skip
    w, limits = _whole(editor.constants[op.inputs[1]], weights.scale), _limits(op, target)
    if w is None or limits is None:
        return None
    bias = np.zeros(len(w), np.int32)
    if len(op.inputs) > 2:
        if weights.bias is None or weights.float_bias is None:
            return None
        if not np.array_equal(editor.constants[op.inputs[2]], weights.float_bias):
            return None
        bias = weights.bias
    node = scaled_conv(q_conv_node(op.name, x, out, editor, w, bias, op.attrs), source, target, weights.scale)
    return [Node(node.name, node.op, node.inputs, node.outputs, {**node.attrs, "limits": limits})]


def _combination(
    op: Node, out: str, names: Sequence[str], found: Sequence[Quantisation], target: Quantisation
) -> list[Node] | None:
    limits = _limits(op, target)
    if limits is None:
        return None
    node = combination_node(op.name, f"q_{op.op}", names, out, (found[0], found[1], target))
    return [Node(node.name, node.op, node.inputs, node.outputs, {**node.attrs, "limits": limits})]


def _move_first(op: Node, editor: GraphEditor) -> None:
    """Move bytes instead of what they stand for: dequantise, then move, becomes move, then dequantise."""
    inputs = _sources(op, editor)
    if not inputs or op.attrs.get("mode", "nearest") != "nearest":
        return
    found = {quantisation_of(item, editor) for item in inputs}
    if len(found) > 1 or len(inputs) != len(op.inputs):
        return
    each, names = found.pop(), tuple(item.inputs[0] for item in inputs)
    moved = editor.add_tensor(op.output, TensorType(each.dtype, editor.types[op.output].shape))
    back = dequantise_node(f"{op.name}/dequantise", moved, op.output, each)
    editor.replace(op, Node(op.name, _MOVES[op.op], names, (moved,), op.attrs), back)


def _concat(
    op: Node, node: Node, names: Sequence[str], editor: GraphEditor, found: Sequence[Quantisation], target: Quantisation
) -> list[Node]:
    """A concat of bytes of the result's scale: each part of another scale is looked up first."""
    made, parts = list[Node](), []
    for index, (name, each) in enumerate(zip(names, found, strict=True)):
        part = name
        if each != target:
            part = editor.add_tensor(f"{node.output}/{index}", TensorType(target.dtype, editor.types[name].shape))
            made.append(lookup_node(f"{op.name}/{index}", name, part, lookup_table(each, IDENTITY, target)))
        parts.append(part)
    return [*made, Node(op.name, "q_concat", tuple(parts), node.outputs, op.attrs)]


def _root(tensor: str, editor: GraphEditor) -> tuple[str, npt.NDArray[np.uint8]]:
    """The tensor that a look-up reads and its table; any other tensor is itself."""
    producer = editor.producer(tensor)
    if producer is None or producer.op != "q_lookup":
        return tensor, _EVERY
    return producer.inputs[0], producer.attrs["table"]


def _product_of_one(node: Node, editor: GraphEditor) -> None:
    """x times a function of x (SiLU) is a function of x."""
    (first, one), (second, two) = (_root(name, editor) for name in node.inputs)
    x, y = node.inputs
    if first != second:
        (first, one), (second, two) = (x, _EVERY), _root(y, editor)
    if first != second:
        (first, one), (second, two) = _root(x, editor), (y, _EVERY)
    if first != second or node.attrs["table"] is not None:
        return
    offsets = tuple(128 if editor.types[name].dtype == np.int8 else 0 for name in (*node.inputs, node.output))
    table = product_table(one, two, node.attrs["scales"], node.attrs["zero_points"], offsets)
    low, high = (limit + offsets[2] for limit in node.attrs["limits"])
    editor.replace(node, lookup_node(node.name, first, node.output, np.clip(table, low, high).astype(np.uint8)))
    for name in (x, y):
        factor = editor.producer(name)
        if factor is not None and factor.op == "q_lookup" and name not in editor.outputs and not editor.consumers(name):
            editor.remove(factor)


def _join_lookup(node: Node, editor: GraphEditor) -> None:
    """A look-up whose source only it reads goes into what makes that."""
    source = node.inputs[0]
    producer = editor.producer(source)
    if producer is None or producer.op not in TABLE_OPS or not editor.private(source):
        return
    if editor.types[source].dtype != editor.types[node.output].dtype:
        return
    before = producer.attrs["table"]
    table = node.attrs["table"] if before is None else node.attrs["table"][before]
    editor.remove(node)
    editor.update(producer, outputs=node.outputs, table=table)
