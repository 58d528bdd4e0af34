"""Copies of listed rows and columns: what slices and zero padding share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.builder import Builder, Maps, block_offsets
from cache.geometry import Index, gather
from cache.graph import Node
from cache.steps import Pixels, Read, State, Step
from kernels.copy import copy_pixels
from kernels.layout import Map, Test


@dataclass(frozen=True, eq=False)
class CopyStep(Step):
    """rows, columns : int32, input row (column) of each output row (column); -1 is zero."""

    source: Map
    planes: npt.NDArray[np.int64]
    rows: Index
    columns: Index
    destination: Map

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            copy_pixels(
                state.arena, self.source, self.planes, self.rows, self.columns, self.destination, pixels, test,
                state.scratch, state.written[self.target],
            )
        )  # fmt: skip


def lower_copy(node: Node, builder: Builder, rows: Index, columns: Index) -> None:
    """Add a copy of the node's input through two index tables to the plan."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    spans = gather(rows), gather(columns)
    reads = tuple(Read(int(m), *spans) for m in np.unique(value.maps))

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        return CopyStep(
            node.name, node.op, target, reads, 0, channels, False, info.layout, planes, rows, columns,
            maps[target].layout,
        )  # fmt: skip

    builder.emit(finish)
