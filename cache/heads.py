"""Where the spatial part of a model ends: the last maps before each output is reshaped.

A detector's own tail often fixes its input size; cut at its heads, the same weights run at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache.graph import FOREIGN_PREFIX, Graph, Node


@dataclass(frozen=True)
class Head:
    """A spatial tensor, the model output it leads to, and the ONNX op types from it to there."""

    tensor: str
    output: str
    post: tuple[str, ...]


def find_heads(source: Graph, graph: Graph) -> tuple[Head, ...]:
    """The heads of each output of ``graph``, in the order the outputs and their ops name them.

    source : the file's own nodes; graph : its normal form, at any size it runs at.
    """
    spatial = spatial_tensors(graph)
    computed = _computed(source, graph)
    found: list[Head] = []
    for output in graph.outputs:
        stack: list[tuple[str, tuple[str, ...]]] = [(output, ())]
        seen: set[str] = set()
        while stack:
            tensor, post = stack.pop()
            if tensor in seen or tensor not in computed:
                continue
            seen.add(tensor)
            if tensor in spatial:
                found.append(Head(tensor, output, post))
                continue
            node = source.producers.get(tensor)
            if node is not None:
                step = (node.op.removeprefix(FOREIGN_PREFIX), *post)
                stack.extend((name, step) for name in reversed(node.inputs))
    return tuple(found)


def spatial_tensors(graph: Graph) -> frozenset[str]:
    """Maps that normal-form ops make from the image.

    A map that a foreign op made may join in where it meets one of the same height and width (a log-softmax over
    the channels of a branch): it was not reshaped away.
    """
    spatial = {name for name in graph.inputs if graph.types[name].is_feature_map}
    for node in graph.nodes:
        if node.is_foreign:
            continue
        inputs = graph.activations(node)
        sizes = {graph.types[name].shape[2:] for name in inputs if name in spatial}
        if sizes and all(name in spatial or graph.types[name].shape[2:] in sizes for name in inputs):
            spatial.add(node.output)
    return frozenset(spatial)


def _computed(source: Graph, graph: Graph) -> frozenset[str]:
    """Tensors whose values depend on the pixels, not only on the size, of the image."""
    names = set(source.inputs)
    for node in source.nodes:
        if not names.isdisjoint(_read(node, source, graph)):
            names.update(name for name in node.outputs if name not in graph.folded)
    return frozenset(names)


def _read(node: Node, source: Graph, graph: Graph) -> tuple[str, ...]:
    return tuple(name for name in node.inputs if name not in source.constants and name not in graph.folded)
