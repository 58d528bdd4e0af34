"""Additions that a convolution does by itself: what it adds is read where its result is stored, and costs no step.

Residual connections, and the lateral ones of feature pyramids. The price is one test less: where either operand is
written, the convolution is computed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from cache.arena import LANES
from cache.builder import Builder, Maps, whole_reads
from cache.graph import Graph, Node
from cache.steps import Read
from cache.values import Value
from kernels.layout import Act


@dataclass(frozen=True, eq=False)
class Addition:
    """An addition, and the convolution that may do it. addend : the other operand."""

    node: Node
    convolution: Node
    addend: str

    @property
    def merged(self) -> Node:
        """The convolution that adds: the attribute `addend`, and whether it does so after its `activation`."""
        after = self.node.activation.is_identity
        activation = self.convolution.activation if after else self.node.activation
        attrs = {**self.convolution.attrs, "addend": self.addend, "adds_after": after, "activation": activation}
        return replace(self.convolution, outputs=self.node.outputs, attrs=attrs)


def additions(graph: Graph, nodes: Collection[Node], kept: Collection[str]) -> dict[str, Addition]:
    """By name, the additions whose operand is a convolution that nobody else reads.

    nodes : those that are cached. kept : tensors that must be stored, and nodes with rules of their own.
    """
    cached, taken = {node.name: node for node in nodes}, set[str]()
    found = {}
    for node in nodes:
        if node.op != "add" or node.name in kept or len(set(graph.activations(node))) != 2:
            continue
        for tensor, addend in (node.inputs, node.inputs[::-1]):
            made_by = graph.producers.get(tensor)
            if made_by is None or made_by.name not in cached or tensor in kept or made_by.name in kept:
                continue
            alone = len(graph.consumers[tensor]) == 1 and made_by.name not in taken
            one_activation = made_by.activation.is_identity or node.activation.is_identity
            whole = made_by.op == "conv" and made_by.attrs["groups"] == 1
            if alone and one_activation and whole and graph.type_of(addend) == graph.type_of(tensor):
                taken.add(made_by.name)
                found[node.name] = Addition(node, made_by, addend)
                break
    return found


def can_be_added(builder: Builder, tensor: str) -> bool:
    """Whether a tensor fills whole blocks of one map in order, as a convolution's result does."""
    value = builder.values[tensor]
    first = int(value.channels[0])
    in_order = np.array_equal(value.channels, first + np.arange(len(value))) and first % LANES == 0
    return in_order and np.unique(value.maps).size == 1 and not builder.is_interleaved(value)


@dataclass(frozen=True, eq=False)
class Addend:
    """What a convolution into the map `target` adds to its results. value : None where it adds nothing."""

    value: Value | None
    target: int
    after: bool = False

    @property
    def reads(self) -> tuple[Read, ...]:
        """What the convolution reads besides its window."""
        return () if self.value is None else whole_reads(self.value)

    def told(self, act: Act, maps: Maps) -> Act:
        """The activation, told where to find what is added."""
        if self.value is None:
            return act
        source = maps[int(self.value.maps[0])]
        block = int(self.value.channels[0]) // LANES
        distance = (source.origin + block * source.plane - maps[self.target].origin) * 4
        return act._replace(after=distance) if self.after else act._replace(before=distance)


def addend(node: Node, builder: Builder, target: int) -> Addend:
    """What a convolution adds; asks for the strides of its target to be those of what it adds."""
    if "addend" not in node.attrs:
        return Addend(None, target)
    value = builder.values[node.attrs["addend"]]
    builder.arena.make_alike(int(value.maps[0]), target)
    return Addend(value, target, node.attrs["adds_after"])
