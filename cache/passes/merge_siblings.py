"""Merges sibling convolutions: those that read one tensor through one window become one, its outputs slices of it.

Slices are views (`cache.values`), so that a merge saves a step and the idle lanes of narrow heads, and reads the input
once. Depthwise convolutions of the same window that alone read the parts merge as well. Unlike the passes of
`cache.passes.pipeline` this one knows the arena's lanes, and what the caller has rules for: it runs as a plan is made.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from cache.arena import LANES
from cache.graph import QUANTISED_OPS, Graph, Node, TensorType
from cache.passes.editor import GraphEditor

VIEWS = frozenset({"concat", "select_channels"})
"""Ops that move no data."""


def merge_siblings(graph: Graph, cached: Collection[str], kept: Collection[str] = ()) -> Graph:
    """Merge what can be merged at no price: no reader gets a view that would have to be packed for it.

    cached : names of the nodes that become steps; others are no readers here, as tensors are handed out from any lane.
    kept : names of nodes that stay by themselves, such as those with a rule of their own. Quantised models stay.
    """
    if any(node.op in QUANTISED_OPS for node in graph):
        return graph
    work = _Siblings(
        GraphEditor(graph), frozenset(cached), frozenset(cached) - frozenset(kept), {n.name for n in graph}
    )
    for followed in (True, False):
        groups: dict[Hashable, list[Node]] = {}
        for node in work.editor.each():
            key = work.key(node, followed)
            if key is not None:
                groups.setdefault(key, []).append(node)
        for nodes in groups.values():
            work.merge(nodes, followed)
    return work.editor.finish(keep_constants=False)


@dataclass(frozen=True)
class _Siblings:
    """cached : names of nodes that become steps. free : those of them that may merge. taken : names of nodes."""

    editor: GraphEditor
    cached: frozenset[str]
    free: frozenset[str]
    taken: set[str]

    def key(self, node: Node, followed: bool) -> Hashable:
        """What siblings have in common; None for a node that has none.

        A map that no step reads has no threshold: it never joins one that has.
        """
        if not self._may_merge(node) or node.attrs["groups"] != 1:
            return None
        if not followed:
            return node.inputs[0], self._window(node), bool(self._readers(node.output))
        after = self._follower(node)
        return after and (node.inputs[0], self._window(node), self._window(after), bool(self._readers(after.output)))

    def merge(self, nodes: Sequence[Node], followed: bool) -> None:
        """Merge those of a group that fit; with the depthwise convolutions that follow them, or without."""
        ends = {node.name: after for node in nodes if (after := self._follower(node) if followed else node)}
        parts = self._fitting(nodes, ends)
        if len(parts) < 2:
            return
        merged = self._join(parts, parts[0].inputs[0], 1)
        lasts = [ends[node.name] for node in parts]
        if followed:
            merged = self._join(lasts, merged.output, sum(self._channels(node) for node in parts))
        at = 0
        for node in lasts:
            channels = np.arange(at, at + self._channels(node), dtype=np.int64)
            self.editor.add(Node(node.name, "select_channels", (merged.output,), node.outputs, {"channels": channels}))
            at += channels.size

    def _may_merge(self, node: Node) -> bool:
        return node.op == "conv" and node.name in self.free and node.activation.slope is None

    def _channels(self, node: Node) -> int:
        return self.editor.types[node.output].shape[1]

    def _window(self, node: Node) -> Hashable:
        kernel = self.editor.constants[node.inputs[1]].shape[2:]
        return kernel, *(node.attrs[name] for name in ("strides", "pads", "dilations")), node.activation

    def _follower(self, node: Node) -> Node | None:
        """The depthwise convolution that alone reads a node, if it may merge; of one channel, any is one."""
        if not self.editor.private(node.output):
            return None
        after = self.editor.consumers(node.output)[0]
        if not self._may_merge(after):
            return None
        channels = self._channels(node)
        return after if after.attrs["groups"] == channels == self._channels(after) else None

    def _readers(self, tensor: str) -> list[Node]:
        """The steps that read a tensor, as it is or through views."""
        found, pending, seen = list[Node](), [tensor], {tensor}
        while pending:
            for node in self.editor.consumers(pending.pop()):
                if node.name in self.cached and node.op not in VIEWS:
                    found.append(node)
                elif node.name in self.cached and node.output not in seen:
                    seen.add(node.output)
                    pending.append(node.output)
        return found

    def _fitting(self, nodes: Sequence[Node], ends: dict[str, Node]) -> list[Node]:
        """Parts in their order: whole blocks, then what must begin a block, then what may lie anywhere."""

        def rank(node: Node) -> tuple[bool, bool]:
            return self._channels(node) % LANES != 0, self._bears(ends[node.name].output, 1, 1)

        parts, at = list[Node](), 0
        for node in sorted(nodes, key=rank):
            channels = self._channels(node)
            if self._bears(ends[node.name].output, at % LANES, channels):
                parts.append(node)
                at += channels
        return parts

    def _bears(self, tensor: str, lane: int, channels: int) -> bool:
        """Whether readers work as well with channels that begin at a lane of a block other than 0.

        Convolutions read any lanes, but no more blocks for that; other ops would pass the lanes on, until two operands
        differ and one is packed.
        """
        if lane == 0:
            return True
        straddles = -(-(lane + channels) // LANES) > -(-channels // LANES)
        readers = self._readers(tensor)
        return not readers or (not straddles and all(n.op == "conv" and n.attrs["groups"] == 1 for n in readers))

    def _join(self, parts: Sequence[Node], source: str, groups: int) -> Node:
        """One convolution of a tensor in the place of several, their channels side by side."""
        first, name = parts[0], "+".join(node.name for node in parts)
        while name in self.taken:
            name += "+"
        self.taken.add(name)
        shape = self.editor.types[first.output].shape
        channels = sum(self._channels(node) for node in parts)
        weights = np.concatenate([self.editor.constants[node.inputs[1]] for node in parts])
        inputs = [source, self.editor.add_constant(f"{name}/weight", weights)]
        if any(len(node.inputs) > 2 for node in parts):
            biases = [
                self.editor.constants[node.inputs[2]] if len(node.inputs) > 2 else np.zeros(self._channels(node))
                for node in parts
            ]
            inputs.append(self.editor.add_constant(f"{name}/bias", np.concatenate(biases).astype(np.float32)))
        kind = TensorType(np.dtype(np.float32), (shape[0], channels, *shape[2:]))
        output = self.editor.add_tensor(name, kind)
        merged = Node(name, "conv", tuple(inputs), (output,), {**first.attrs, "groups": groups})
        for node in parts:
            self.editor.remove(node)
        self.editor.add(merged)
        return merged
