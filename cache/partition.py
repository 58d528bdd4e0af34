"""Decides which nodes a plan caches and which run in ONNX Runtime tails, and says why.

Pure: what is supported is asked of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cache.graph import FOREIGN_PREFIX, Graph, Node, is_synthetic


@dataclass(frozen=True)
class Tail:
    """A connected piece of the model that runs whole, from cached tensors (or the image) to outputs.

    reasons : why, once each, of the nodes that could not be cached by themselves.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    node_names: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """cached and tails hold every node once; reasons has one entry per node that is in a tail."""

    cached: tuple[Node, ...]
    tails: tuple[Tail, ...]
    reasons: Mapping[str, str]


def partition(graph: Graph, supported: Callable[[Graph, Node], str | None]) -> Partition:
    """Split a graph: a node is cached if it is supported and every computed input of it is cached.

    supported : None, or the reason why a node cannot be cached; foreign nodes are never asked about.
    A tail can only begin at tensors that the file knows, so what feeds one through a tensor that a pass made
    up joins the tail.
    """
    reasons: dict[str, str] = {}
    own: dict[str, str] = {}
    for node in graph.nodes:
        reason = _reason(graph, node, supported)
        if reason is not None:
            own[node.name] = reasons[node.name] = reason
    while True:
        _spread(graph, reasons)
        joined = _joins(graph, reasons)
        if not joined:
            break
        reasons.update(joined)
    cached = tuple(node for node in graph.nodes if node.name not in reasons)
    return Partition(cached, _tails(graph, reasons, own), reasons)


def _reason(graph: Graph, node: Node, supported: Callable[[Graph, Node], str | None]) -> str | None:
    if node.is_foreign:
        return f"{node.op.removeprefix(FOREIGN_PREFIX)} is not a cached op in this form"
    return supported(graph, node)


def _spread(graph: Graph, reasons: dict[str, str]) -> None:
    """What reads a tail's tensor is in the tail."""
    outside: dict[str, str] = {}
    for node in graph.nodes:
        if node.name not in reasons:
            source = next((outside[name] for name in node.inputs if name in outside), None)
            if source is None:
                continue
            reasons[node.name] = f"comes after {source}"
        for name in node.outputs:
            outside[name] = f"{node.name!r} ({node.op.removeprefix(FOREIGN_PREFIX)})"


def _joins(graph: Graph, reasons: Mapping[str, str]) -> dict[str, str]:
    """Cached nodes whose made-up output is read by a tail."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.name not in reasons or node.is_foreign:
            continue
        for name in graph.activations(node):
            producer = graph.producers.get(name)
            if producer is not None and is_synthetic(name) and producer.name not in reasons:
                found[producer.name] = f"makes only a part of what {node.name!r} reads"
    return found


def _tails(graph: Graph, reasons: Mapping[str, str], own: Mapping[str, str]) -> tuple[Tail, ...]:
    """Weakly connected components of the nodes in tails; constants and cached tensors connect nothing."""
    parent = {node.name: node.name for node in graph.nodes if node.name in reasons}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for node in graph.nodes:
        if node.name not in reasons:
            continue
        for name in node.inputs:
            producer = graph.producers.get(name)
            if producer is not None and producer.name in reasons:
                parent[root(producer.name)] = root(node.name)
    groups: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.name in reasons:
            groups.setdefault(root(node.name), []).append(node)
    return tuple(_tail(graph, nodes, own) for nodes in groups.values())


def _tail(graph: Graph, nodes: list[Node], own: Mapping[str, str]) -> Tail:
    made = {name for node in nodes for name in node.outputs}
    inputs = dict.fromkeys(name for node in nodes for name in graph.activations(node) if name not in made)
    outputs = tuple(name for name in graph.outputs if name in made)
    why = dict.fromkeys(own[node.name] for node in nodes if node.name in own)
    return Tail(tuple(inputs), outputs, tuple(node.name for node in nodes), tuple(why))
