"""Maximum and average pooling of listed pixels; windows are clipped to the real map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import aligned_zeros
from cache.builder import Builder, Maps, block_offsets
from cache.graph import Graph, Node
from cache.ops.conv import window_reads
from cache.steps import Floats, Pixels, State, Step, act
from kernels.constants import IDENTITY
from kernels.layout import Map, Test, Window
from kernels.pool import pool_average, pool_max


@dataclass(frozen=True, eq=False)
class PoolStep(Step):
    """Arguments of `kernels.pool`. size : height and width of the source map, px."""

    source: Map
    destination: Map
    planes: npt.NDArray[np.int64]
    size: tuple[int, int]
    window: Window
    include_pad: bool
    slope: Floats

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        written = state.written[self.target]
        height, width = self.size
        if self.op == "max_pool":
            return int(
                pool_max(
                    state.arena, self.source, self.planes, height, width, self.window, self.slope, self.destination,
                    pixels, act(IDENTITY), test, state.scratch, written,
                )
            )  # fmt: skip
        return int(
            pool_average(
                state.arena, self.source, self.planes, height, width, self.window, self.include_pad, self.slope,
                self.destination, pixels, act(IDENTITY), test, state.scratch, written,
            )
        )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Every pooling of the normal form can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a pooling to the plan."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    kernel = node.attrs["kernel"]
    reads = window_reads(builder, node, value, kernel)
    window = Window(*kernel, *node.attrs["strides"], *node.attrs["dilations"], *node.attrs["pads"])
    include = bool(node.attrs.get("count_include_pad", False))

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        return PoolStep(
            node.name, node.op, target, reads, 0, channels, False, info.layout, maps[target].layout, planes,
            (value.height, value.width), window, include, aligned_zeros(len(blocks) * 16),
        )  # fmt: skip

    builder.emit(finish)
