"""Softmax over channels: Softmax along them, or along the last axis of a map whose channels were moved there."""

from __future__ import annotations

from cache.graph import FOREIGN_PREFIX, Node
from cache.passes.editor import GraphEditor

_CHANNELS_LAST: dict[tuple[int, ...], tuple[int, ...]] = {(0, 2, 3, 1): (0, 3, 1, 2), (0, 3, 2, 1): (0, 3, 2, 1)}
"""Orders of axes that end with the channels, and what undoes them."""


def softmax(node: Node, editor: GraphEditor, opset: int) -> list[Node] | None:
    """Softmax -> softmax where it is one over channels, pixel by pixel.

    Before opset 13 an axis stood for itself and all after it. Channels that were moved last, and are moved back by
    all that read the softmax, are moved after it instead, where a later pass finds that nothing is moved at all.
    """
    axis = int(node.attrs.get("axis", -1 if opset >= 13 else 1))
    found = editor.feature_map(node.inputs[0])
    if found is None:
        return None
    if axis % 4 == 1:
        alone = opset >= 13 or found.shape[2:] == (1, 1)
        return [Node(node.name, "softmax", node.inputs, node.outputs)] if alone else None
    moved = editor.producer(node.inputs[0])
    undone_by = None if moved is None else _CHANNELS_LAST.get(_order(moved))
    if axis % 4 != 3 or moved is None or undone_by is None:
        return None
    source, readers = editor.feature_map(moved.inputs[0]), editor.consumers(node.output)
    back = bool(readers) and all(_order(reader) == undone_by for reader in readers)
    if source is None or not back or node.output in editor.outputs:
        return None
    between = editor.add_tensor(f"{node.output} (channels first)", source)
    return [
        Node(f"{node.name} (channels first)", "softmax", moved.inputs, (between,)),
        Node(node.name, moved.op, (between,), node.outputs, {"perm": moved.attrs["perm"]}),
    ]


def _order(node: Node) -> tuple[int, ...]:
    """Of the axes, as a Transpose puts them; () for another op, and where it is not said."""
    return tuple(map(int, node.attrs.get("perm", ()))) if node.op == FOREIGN_PREFIX + "Transpose" else ()


RULES = {"Softmax": softmax}
