"""Softmax over the channels of each pixel."""

from __future__ import annotations

import numpy as np

from cache.arena import aligned_copy
from cache.builder import Builder, Maps, block_offsets, lanes, whole_reads
from cache.graph import Graph, Node
from cache.steps import Step, method
from kernels.layout import Test
from kernels.record import (
    STATE_WORDS,
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
from kernels.softmax import softmax


@entry
def softmax_of_channels(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, live, target map, target."""
    r, s = words_at(record, 13), words_at(state, STATE_WORDS)
    return softmax(
        arena_of(s), map_at(r, 0), ints_at(r, 4), floats_at(r, 6), map_at(r, 8), pixels_at(pixels, count),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[12]),
    )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Every softmax of the normal form can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a softmax to the plan."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    live, reads = lanes(blocks.position, len(blocks), np.ones(channels)), whole_reads(value)

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        made = method(softmax_of_channels, info.layout, planes, aligned_copy(live), maps[target].layout, target)
        return Step(node.name, node.op, target, reads, 0, channels, True, made)

    builder.emit(finish)
