"""Walks ONNX messages by their fields alone: nodes inside nodes, tensors inside attributes.

Needs no onnx: what it is given are protobuf messages, and the two enumeration values it compares with are
part of the file format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cache.model import ModelError

_GRAPH_ATTRIBUTE = 5
_EXTERNAL = 1
_DEEPEST_CALLS = 64


def looks_like(data: bytes) -> str:
    """What a file seems to be, for a message."""
    if not data:
        return "an empty file"
    head = data[:64]
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"text starting with {head[:24].decode('ascii')!r}"
    return f"{len(data)} bytes starting with {data[:8].hex(' ')}"


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of every graph inside their attributes."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def subgraphs(node: Any) -> list[Any]:
    """The graphs in the attributes of a node."""
    found = []
    for attribute in node.attribute:
        if attribute.type == _GRAPH_ATTRIBUTE:
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def all_graphs(graph: Any) -> Iterator[Any]:
    """A graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def inlined_nodes(proto: Any, most: int) -> int:
    """Nodes of a model with its functions written out, without doing so; counted up to a little above `most`.

    Functions that call each other twice, thirty deep, are a billion nodes. Those that call themselves count as endless.
    """
    bodies = {(function.domain, function.name): function for function in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, calling: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            name = (node.domain, node.op_type)
            if name not in bodies:
                total += 1
            elif name in calling or len(calling) > _DEEPEST_CALLS:
                return most + 1
            else:
                if name not in sizes:
                    sizes[name] = size(all_nodes(bodies[name]), calling | {name})
                total += sizes[name]
            if total > most:
                return most + 1
        return total

    return size(all_nodes(proto.graph), frozenset())


def refuse_external_data(proto: Any) -> None:
    """Raise ModelError where a weight lies outside the file, or is sparse."""
    for graph in all_graphs(proto.graph):
        tensors = list(graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                tensors.extend([attribute.t, *attribute.tensors])
                if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                    raise ModelError("expected dense weights, got a sparse constant")
        for tensor in tensors:
            if tensor.data_location == _EXTERNAL or tensor.external_data:
                raise ModelError(f"expected all weights inside the file, got tensor {tensor.name!r} in external data")
        if graph.sparse_initializer:
            raise ModelError("expected dense weights, got sparse initializers")


def captured(node: Any) -> list[str]:
    """Outer tensors that the graphs inside a node read by name: inputs in all but form."""
    found: dict[str, None] = {}
    for graph in subgraphs(node):
        own = {item.name for item in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            for name in (*inner.input, *captured(inner)):
                if name and name not in own:
                    found[name] = None
            own.update(inner.output)
        for item in graph.output:
            if item.name not in own:
                found[item.name] = None
    return list(found)
