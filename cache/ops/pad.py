"""Zero padding that could not be folded into its reader."""

from __future__ import annotations

import numpy as np

from cache.builder import Builder
from cache.geometry import Index
from cache.graph import Graph, Node
from cache.ops.copies import lower_copy


def supports(graph: Graph, node: Node) -> str | None:
    """Every padding of the normal form can be cached."""
    return None


def padded(outputs: int, inputs: int, before: int) -> Index:
    """Input position of each output position; -1 in the padding."""
    index = np.arange(outputs, dtype=np.int32) - before
    return np.where((index < 0) | (index >= inputs), -1, index).astype(np.int32)


def lower(node: Node, builder: Builder) -> None:
    """Add a padding to the plan."""
    _, in_height, in_width = builder.shape(node.inputs[0])
    _, height, width = builder.shape(node.output)
    top, left = node.attrs["pads"][:2]
    lower_copy(node, builder, padded(height, in_height, top), padded(width, in_width, left))
