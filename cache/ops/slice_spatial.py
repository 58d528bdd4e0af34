"""Strided slices of rows and columns."""

from __future__ import annotations

import numpy as np

from cache.builder import Builder
from cache.graph import Graph, Node
from cache.ops.copies import lower_copy


def supports(graph: Graph, node: Node) -> str | None:
    """Every slice of the normal form can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a slice to the plan."""
    _, height, width = builder.shape(node.output)
    (top, left), (step_y, step_x) = node.attrs["starts"], node.attrs["steps"]
    rows = top + step_y * np.arange(height, dtype=np.int32)
    columns = left + step_x * np.arange(width, dtype=np.int32)
    lower_copy(node, builder, rows.astype(np.int32), columns.astype(np.int32))
