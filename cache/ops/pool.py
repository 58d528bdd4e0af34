"""Maximum and average pooling of listed pixels; windows are clipped to the real map."""

from __future__ import annotations

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, block_offsets
from cache.graph import Graph, Node
from cache.ops.conv import window_reads
from cache.steps import Step, method
from kernels.layout import Test, Window, unchanged
from kernels.pool import pool_average, pool_max
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
    window_at,
    words_at,
)


@entry
def max_pooling(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, height and width of the source, window, slope, target map, target."""
    r, s = words_at(record, 25), words_at(state, STATE_WORDS)
    return pool_max(
        arena_of(s), map_at(r, 0), ints_at(r, 4), r[6], r[7], window_at(r, 8), floats_at(r, 18), map_at(r, 20),
        pixels_at(pixels, count), unchanged(), Test(mode, limit, block), scratch_of(s, worker),
        mask_of(s, r[24]),
    )  # fmt: skip


@entry
def average_pooling(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """The same, and at the end whether padding counts."""
    r, s = words_at(record, 26), words_at(state, STATE_WORDS)
    return pool_average(
        arena_of(s), map_at(r, 0), ints_at(r, 4), r[6], r[7], window_at(r, 8), r[25] != 0, floats_at(r, 18),
        map_at(r, 20), pixels_at(pixels, count), unchanged(), Test(mode, limit, block),
        scratch_of(s, worker), mask_of(s, r[24]),
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
    maximum = node.op == "max_pool"
    include = bool(node.attrs.get("count_include_pad", False))

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        arguments = (
            info.layout, planes, value.height, value.width, window, aligned_zeros(len(blocks) * LANES),
            maps[target].layout, target,
        )  # fmt: skip
        made = method(max_pooling, *arguments) if maximum else method(average_pooling, *arguments, int(include))
        return Step(node.name, node.op, target, reads, 0, channels, False, made)

    builder.emit(finish)
