"""Copies of listed rows and columns: what slices and zero padding share."""

from __future__ import annotations

import numpy as np

from cache.builder import Builder, Maps, block_offsets
from cache.geometry import Index, gather
from cache.graph import Node
from cache.steps import Read, Step, method
from kernels.copy import copy_pixels
from kernels.layout import Test
from kernels.record import (
    STATE_WORDS,
    arena_of,
    entry,
    index_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)


@entry
def copy(record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int) -> int:
    """source, planes, rows, columns (int32, input of each output row and column; -1 is zero), target map, target."""
    r, s = words_at(record, 15), words_at(state, STATE_WORDS)
    return copy_pixels(
        arena_of(s), map_at(r, 0), ints_at(r, 4), index_at(r, 6), index_at(r, 8), map_at(r, 10),
        pixels_at(pixels, count), Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[14]),
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
        made = method(copy, info.layout, planes, rows, columns, maps[target].layout, target)
        return Step(node.name, node.op, target, reads, 0, channels, False, made)

    builder.emit(finish)
