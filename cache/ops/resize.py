"""Nearest and bilinear resize through index tables made at plan time."""

from __future__ import annotations

import numpy as np

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, block_offsets
from cache.geometry import Index, gather, linear_index, nearest_index, source_positions
from cache.graph import Graph, Node
from cache.steps import Floats, Read, Step, method
from kernels.layout import Test, unchanged
from kernels.record import (
    STATE_WORDS,
    arena_of,
    entry,
    floats_at,
    index_2d_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)
from kernels.resize import resize

COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric")


@entry
def resizing(record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int) -> int:
    """source, planes, rows, row weights, columns, column weights, slope, target map, target."""
    r, s = words_at(record, 23), words_at(state, STATE_WORDS)
    return resize(
        arena_of(s), map_at(r, 0), ints_at(r, 4), index_2d_at(r, 6), floats_at(r, 9), index_2d_at(r, 11),
        floats_at(r, 14), floats_at(r, 16), map_at(r, 18), pixels_at(pixels, count), unchanged(),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[22]),
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


def is_periodic(weights: Floats, inputs: int) -> bool:
    """Whether the weights along an axis are the same over every input, but for the ends."""
    period, rest = divmod(weights.size, inputs)
    inner = weights[period : weights.size - period]
    return not weights.any() or (rest == 0 and np.array_equal(inner[period:], inner[: max(inner.size - period, 0)]))


def lower(node: Node, builder: Builder) -> None:
    """Add a resize to the plan."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    rows, row_weights = axis(node, value.height, height, node.attrs["scales"][0])
    columns, column_weights = axis(node, value.width, width, node.attrs["scales"][1])
    spans = gather(rows[:, 0], rows[:, 1]), gather(columns[:, 0], columns[:, 1])
    reads = tuple(Read(int(m), *spans) for m in np.unique(value.maps))
    anywhere = is_periodic(row_weights, value.height) and is_periodic(column_weights, value.width)

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        made = method(
            resizing, info.layout, planes, rows, row_weights, columns, column_weights,
            aligned_zeros(len(blocks) * LANES), maps[target].layout, target,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, 0, channels, False, made, anywhere=anywhere)

    builder.emit(finish)
