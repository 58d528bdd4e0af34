"""Global pooling to a 1 x 1 map; each row's part is kept, so that only rows with written pixels are read again."""

from __future__ import annotations

import numpy as np

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, block_offsets
from cache.geometry import everything
from cache.graph import Graph, Node
from cache.steps import Read, Step, method
from kernels.constants import STORE
from kernels.global_pool import global_average, global_max
from kernels.jit import jit
from kernels.layout import Test, unchanged
from kernels.masks import any_in_row
from kernels.record import (
    MOVES,
    STATE_WORDS,
    arena_of,
    entry,
    floats_at,
    ints_at,
    map_at,
    mask_of,
    scratch_of,
    words_at,
)


@jit
def _stale_rows(state: np.ndarray, reads: np.ndarray, height: int, everything: bool) -> np.ndarray:
    """uint8[height], the rows of which this frame wrote a pixel in one of the maps read; all where these were moved."""
    rows = np.full(height, np.uint8(everything or state[MOVES] != 0), np.uint8)
    for i in range(reads.size):
        mask = mask_of(state, reads[i])
        for y in range(height):
            rows[y] |= any_in_row(mask, y)
    return rows


@entry
def global_averaging(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, height, width, element where the rows' parts start, slope, target map, reads, target."""
    r, s = words_at(record, 18), words_at(state, STATE_WORDS)
    planes, arena = ints_at(r, 4), arena_of(s)
    rows = _stale_rows(s, ints_at(r, 15), r[6], mode == STORE)
    size = planes.size * LANES
    parts = arena[r[8] : r[8] + r[6] * size].reshape((r[6], size))
    return global_average(
        arena, map_at(r, 0), planes, r[7], rows, parts, floats_at(r, 9), map_at(r, 11), unchanged(),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[17]),
    )  # fmt: skip


@entry
def global_maximum(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """The same arguments."""
    r, s = words_at(record, 18), words_at(state, STATE_WORDS)
    planes, arena = ints_at(r, 4), arena_of(s)
    rows = _stale_rows(s, ints_at(r, 15), r[6], mode == STORE)
    size = planes.size * LANES
    parts = arena[r[8] : r[8] + r[6] * size].reshape((r[6], size))
    return global_max(
        arena, map_at(r, 0), planes, r[7], rows, parts, floats_at(r, 9), map_at(r, 11), unchanged(),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[17]),
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
        called = global_averaging if node.op == "global_avg_pool" else global_maximum
        made = method(
            called, info.layout, planes, value.height, value.width, maps[partials].origin, aligned_zeros(size),
            maps[target].layout, np.array([r.map for r in reads], np.int64), target,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, 0, channels, True, made)

    builder.emit(finish)
