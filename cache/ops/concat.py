"""Concatenation along channels: a view of several maps, no data moved."""

from __future__ import annotations

from cache.builder import Builder
from cache.graph import Graph, Node
from cache.values import concatenate


def supports(graph: Graph, node: Node) -> str | None:
    """Why a concatenation cannot be cached, or None."""
    if len(graph.activations(node)) != len(node.inputs):
        return "one of the parts is a constant"
    return None


def lower(node: Node, builder: Builder) -> None:
    """Make the output a view of the inputs. An interleaved part is packed first: readers expect blocks."""
    parts = []
    for name in node.inputs:
        value = builder.values[name]
        parts.append(builder.dense_blocks(name)[0] if builder.is_interleaved(value) else value)
    builder.values[node.output] = concatenate(parts)
