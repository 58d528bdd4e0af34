"""Nearest and bilinear resize through index tables made at plan time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, block_offsets
from cache.geometry import Index, gather, linear_index, nearest_index, source_positions
from cache.graph import Graph, Node
from cache.steps import Floats, Pixels, Read, State, Step, act
from kernels.constants import IDENTITY
from kernels.layout import Map, Test
from kernels.resize import resize

COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric")


@dataclass(frozen=True, eq=False)
class ResizeStep(Step):
    """Arguments of `kernels.resize.resize`."""

    source: Map
    planes: npt.NDArray[np.int64]
    rows: Index
    row_weights: Floats
    columns: Index
    column_weights: Floats
    slope: Floats
    destination: Map

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            resize(
                state.arena, self.source, self.planes, self.rows, self.row_weights, self.columns, self.column_weights,
                self.slope, self.destination, pixels, act(IDENTITY), test, state.scratch, state.written[self.target],
            )
        )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Why a resize cannot be cached, or None."""
    if node.attrs["coordinate"] not in COORDINATES:
        return f"resize coordinates {node.attrs['coordinate']!r} are not known"
    return None


def axis(node: Node, inputs: int, outputs: int, scale: float) -> tuple[Index, Floats]:
    """Index pairs int32[outputs, 2] and weights of the second, along one axis."""
    position = source_positions(outputs, inputs, scale, node.attrs["coordinate"])
    if node.attrs["mode"] == "nearest":
        index = nearest_index(position, inputs, node.attrs["nearest_mode"])
        return np.stack([index, index], axis=1), np.zeros(outputs, np.float32)
    low, high, weight = linear_index(position, inputs)
    return np.stack([low, high], axis=1), weight


def lower(node: Node, builder: Builder) -> None:
    """Add a resize to the plan."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    rows, row_weights = axis(node, value.height, height, node.attrs["scales"][0])
    columns, column_weights = axis(node, value.width, width, node.attrs["scales"][1])
    spans = gather(rows[:, 0], rows[:, 1]), gather(columns[:, 0], columns[:, 1])
    reads = tuple(Read(int(m), *spans) for m in np.unique(value.maps))

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        return ResizeStep(
            node.name, node.op, target, reads, 0, channels, False, info.layout, planes, rows, row_weights, columns,
            column_weights, aligned_zeros(len(blocks) * LANES), maps[target].layout,
        )  # fmt: skip

    builder.emit(finish)
