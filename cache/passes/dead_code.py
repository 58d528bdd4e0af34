"""Drops what no output needs, and the placeholders of absent optional inputs."""

from __future__ import annotations

from cache.graph import Graph, Node


def remove_dead_code(graph: Graph) -> Graph:
    """Keep the nodes, constants and types that an output depends on."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        kept.append(node)
        needed.update(node.inputs)
    kept.reverse()
    used = {*graph.inputs, *graph.outputs}
    for node in kept:
        used.update(node.inputs, node.outputs)
    return Graph(
        graph.name,
        graph.inputs,
        graph.outputs,
        tuple(kept),
        {name: value for name, value in graph.constants.items() if name in used},
        {name: value for name, value in graph.types.items() if name in used},
        graph.folded,
    )


def strip_placeholders(graph: Graph) -> Graph:
    """Remove the empty names that stand for absent optional inputs and outputs of foreign nodes."""
    nodes = tuple(
        Node(
            node.name,
            node.op,
            tuple(name for name in node.inputs if name),
            tuple(name for name in node.outputs if name),
            node.attrs,
        )
        for node in graph.nodes
    )
    return Graph(graph.name, graph.inputs, graph.outputs, nodes, graph.constants, graph.types, graph.folded)
