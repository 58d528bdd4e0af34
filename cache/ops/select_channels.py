"""Split, slice, gather and shuffle of channels: another order of the same view, no data moved."""

from __future__ import annotations

import numpy as np

from cache.builder import Builder
from cache.graph import Graph, Node


def supports(graph: Graph, node: Node) -> str | None:
    """Every selection can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Make the output a view of the input."""
    value = builder.values[node.inputs[0]]
    builder.values[node.output] = value.select(np.asarray(node.attrs["channels"], np.int64))
