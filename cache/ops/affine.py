"""x * scale + shift per channel with an activation, or an activation that no other op could take in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes, whole_reads
from cache.graph import Graph, Node
from cache.steps import Floats, Pixels, State, Step
from kernels.eltwise import affine
from kernels.layout import Act, Map, Test


@dataclass(frozen=True, eq=False)
class AffineStep(Step):
    """Arguments of `kernels.eltwise.affine`."""

    source: Map
    planes: npt.NDArray[np.int64]
    scale: Floats
    shift: Floats
    slope: Floats
    destination: Map
    act: Act

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            affine(
                state.arena, self.source, self.planes, self.scale, self.shift, self.slope, self.destination, pixels,
                self.act, test, state.scratch, state.written[self.target],
            )
        )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Every affine and activation of the normal form can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a scale and shift, or a bare activation, to the plan."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    # A shift of -0.0 keeps every bit of the value, the sign of a zero too.
    factor = np.asarray(node.attrs.get("scale", np.ones(channels)), np.float32)
    added = np.asarray(node.attrs.get("shift", np.full(channels, -0.0)), np.float32)
    scale = lanes(blocks.position, len(blocks), np.broadcast_to(factor, channels))
    shift = lanes(blocks.position, len(blocks), np.broadcast_to(added, channels))
    act, slope = activation(node.activation, blocks.position, len(blocks))
    reads = whole_reads(value)

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        return AffineStep(
            node.name, node.op, target, reads, 0, channels, True, info.layout, planes, aligned_copy(scale),
            aligned_copy(shift), aligned_copy(slope), maps[target].layout, act,
        )  # fmt: skip

    builder.emit(finish)
