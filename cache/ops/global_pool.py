"""Global pooling to a 1 x 1 map; each row's part is kept, so that only rows with written pixels are read again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, block_offsets
from cache.geometry import everything
from cache.graph import Graph, Node
from cache.steps import Floats, Pixels, Read, State, Step, act
from kernels.constants import IDENTITY, STORE
from kernels.global_pool import global_average, global_max
from kernels.layout import Map, Test


@dataclass(frozen=True, eq=False)
class GlobalPoolStep(Step):
    """partials : arena element where the rows' parts start, float32[height, blocks * 16]."""

    source: Map
    destination: Map
    planes: npt.NDArray[np.int64]
    height: int
    width: int
    partials: int
    slope: Floats

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        rows = np.full(self.height, test.mode == STORE, np.uint8)
        for read in self.reads:
            np.maximum(rows, state.written[read.map].max(axis=1), out=rows)
        size = self.planes.size * LANES
        parts = state.arena[self.partials : self.partials + self.height * size].reshape(self.height, size)
        reduce = global_average if self.op == "global_avg_pool" else global_max
        return int(
            reduce(
                state.arena, self.source, self.planes, self.width, rows, parts, self.slope, self.destination,
                act(IDENTITY), test, state.scratch, state.written[self.target],
            )
        )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Every global pooling of the normal form can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a global pooling to the plan, with a map for the rows' parts."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, _, _ = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, 1, 1)
    size = len(blocks) * LANES
    partials = builder.arena.declare(f"{node.output} (rows)", 0, value.height, 1, 1.0, size)
    rows, columns = everything(value.height, 1), everything(value.width, 1)
    reads = tuple(Read(int(m), rows, columns) for m in np.unique(value.maps))

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        return GlobalPoolStep(
            node.name, node.op, target, reads, 0, channels, True, info.layout, maps[target].layout, planes,
            value.height, value.width, maps[partials].origin, aligned_zeros(size),
        )  # fmt: skip

    builder.emit(finish)
