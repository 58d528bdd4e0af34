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
    """Make the output a view of the inputs."""
    joined = concatenate([builder.values[name] for name in node.inputs])
    builder.arena.join(joined.maps.tolist())
    builder.values[node.output] = joined
