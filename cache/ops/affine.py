"""x * scale + shift per channel with an activation, or an activation that no other op could take in."""

from __future__ import annotations

import numpy as np

from cache.arena import aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes, whole_reads
from cache.graph import Graph, Node
from cache.steps import Step, method
from kernels.eltwise import affine
from kernels.layout import Test
from kernels.record import (
    STATE_WORDS,
    act_at,
    arena_of,
    entry,
    floats_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)


@entry
def scale_and_shift(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, scale, shift, slope, target map, activation, target."""
    r, s = words_at(record, 22), words_at(state, STATE_WORDS)
    return affine(
        arena_of(s), map_at(r, 0), ints_at(r, 4), floats_at(r, 6), floats_at(r, 8), floats_at(r, 10), map_at(r, 12),
        pixels_at(pixels, count), act_at(r, 16), Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[21]),
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
        made = method(
            scale_and_shift, info.layout, planes, aligned_copy(scale), aligned_copy(shift), aligned_copy(slope),
            maps[target].layout, act, target,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, 0, channels, True, made)

    builder.emit(finish)
