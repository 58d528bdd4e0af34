"""What a model becomes, node by node: cached or in a tail, how much work, and why. Data only; no printing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.graph import FOREIGN_PREFIX, Graph, Node, macs
from cache.partition import Partition


@dataclass(frozen=True)
class Row:
    """One node.

    op : normal-form or ONNX op, with its fused activation; shape : of its first output, None when unknown
    macs : multiply-accumulates of a dense run; tail : index of its tail, None when it is cached
    reason : why it is not cached, empty when it is
    """

    node: str
    op: str
    shape: tuple[int, ...] | None
    macs: int
    tail: int | None
    reason: str

    @property
    def cached(self) -> bool:
        """Whether only what changed is recomputed."""
        return self.tail is None


@dataclass(frozen=True)
class Totals:
    """Sums over rows; nodes and macs of both kinds."""

    cached_nodes: int
    tail_nodes: int
    cached_macs: int
    tail_macs: int

    @property
    def cached_share(self) -> float:
        """Share of the multiply-accumulates that caching can save; 1 for a model without any."""
        total = self.cached_macs + self.tail_macs
        return self.cached_macs / total if total else 1.0


def describe(graph: Graph, partition: Partition) -> tuple[Row, ...]:
    """One row per node, in the order they run."""
    tails = {name: index for index, tail in enumerate(partition.tails) for name in tail.node_names}
    return tuple(_row(graph, node, tails.get(node.name), partition) for node in graph.nodes)


def totals(rows: Sequence[Row]) -> Totals:
    """Sums of a description."""
    return Totals(
        cached_nodes=sum(row.cached for row in rows),
        tail_nodes=sum(not row.cached for row in rows),
        cached_macs=sum(row.macs for row in rows if row.cached),
        tail_macs=sum(row.macs for row in rows if not row.cached),
    )


def _row(graph: Graph, node: Node, tail: int | None, partition: Partition) -> Row:
    known = graph.type_of(node.output) if node.outputs else None
    op = node.op.removeprefix(FOREIGN_PREFIX)
    if not node.activation.is_identity:
        op = str(node.activation) if op == "activate" else f"{op} + {node.activation}"
    shape = known.shape if known is not None else None
    return Row(node.name, op, shape, macs(graph, node), tail, partition.reasons.get(node.name, ""))
