"""Sum, difference, product, maximum and minimum of two tensors; the second may be a 1 x 1 map for every pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, MapInfo, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets
from cache.geometry import everything, identity
from cache.graph import Graph, Node
from cache.steps import Read, Step, method
from cache.values import Blocks, Value
from kernels.constants import ADD, MAX, MIN, MUL, SUB
from kernels.eltwise import combine
from kernels.layout import Map, Test
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

CODES = {"add": ADD, "sub": SUB, "mul": MUL, "max": MAX, "min": MIN}


@entry
def combination(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """code, first, first planes, second, second planes, slope, target map, activation, target."""
    r, s = words_at(record, 25), words_at(state, STATE_WORDS)
    return combine(
        r[0], arena_of(s), map_at(r, 1), ints_at(r, 5), map_at(r, 7), ints_at(r, 11), floats_at(r, 13), map_at(r, 15),
        pixels_at(pixels, count), act_at(r, 19), Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[24]),
    )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Why a combination cannot be cached, or None."""
    if len(graph.activations(node)) != 2:
        return "one of the operands is a constant that is no value per channel"
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a combination to the plan; the second operand is packed into the lanes of the first where they differ."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    other = builder.values[node.inputs[1]]
    mixed = other.blocks()
    if not np.array_equal(mixed.position, blocks.position):
        order = np.full(len(blocks) * LANES, -1, np.int64)
        order[blocks.position] = np.arange(len(value))
        other, mixed = builder.pack(node.inputs[1], other, order)
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    act, slope = activation(node.activation, blocks.position, len(blocks))
    broadcast = (other.height, other.width) == (1, 1) and (height, width) != (1, 1)
    reads = combined_reads(value, other)

    def finish(maps: Maps) -> Step:
        first, first_planes = block_offsets(maps, blocks)
        second, second_planes = operand(maps, mixed, broadcast)
        made = method(
            combination, CODES[node.op], first.layout, first_planes, second, second_planes, aligned_copy(slope),
            maps[target].layout, act, target,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, 0, channels, True, made)

    builder.emit(finish)


def operand(maps: Maps, blocks: Blocks, broadcast: bool) -> tuple[Map, npt.NDArray[np.int64]]:
    """The second operand's map, with strides of 0 when one pixel serves all."""
    info: MapInfo
    info, planes = block_offsets(maps, blocks)
    return (Map(info.origin, info.plane, 0, 0) if broadcast else info.layout), planes


def combined_reads(value: Value, other: Value) -> tuple[Read, ...]:
    """Reads of a pixelwise step of two values; a 1 x 1 value makes every pixel stale."""
    reads = []
    for source in (value, other):
        rows, columns = identity(value.height), identity(value.width)
        if (source.height, source.width) != (value.height, value.width):
            rows, columns = everything(source.height, value.height), everything(source.width, value.width)
        reads += [Read(int(m), rows, columns) for m in np.unique(source.maps)]
    return tuple(reads)
