"""Convolution: direct on listed pixels, depthwise where every channel is its own group, from the interleaved image."""

from __future__ import annotations

import numpy as np

from cache import bfloat16
from cache.addition import addend
from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.fft import dense_filters, depthwise_filters, fft_method, take_tiling, with_fft
from cache.geometry import reach, window
from cache.graph import Graph, Node, macs
from cache.packing import lanes_per_tap, pack_interleaved, pack_weights, window_taps
from cache.steps import Floats, Read, Step, method
from cache.values import Value
from cache.winograd import suits, tile_border, winograd_method
from kernels.constants import HALF
from kernels.conv import convolve, convolve_depthwise
from kernels.layout import Map, Test
from kernels.record import (
    IMAGE,
    STATE_WORDS,
    act_at,
    arena_of,
    entry,
    floats_3d_at,
    floats_at,
    ints_2d_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)


@entry
def convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, taps, spans, lanes, weights, bias, slope, target map, strides, activation, target, outside.

    outside : 1 where the source is the image outside the arena.
    """
    r, s = words_at(record, 29), words_at(state, STATE_WORDS)
    source = Map(r[0] + r[28] * s[IMAGE], r[1], r[2], r[3])
    return convolve(
        arena_of(s), source, ints_at(r, 4), ints_2d_at(r, 6), r[9], floats_at(r, 10), floats_at(r, 12),
        floats_at(r, 14), map_at(r, 16), pixels_at(pixels, count), r[20], r[21], act_at(r, 22),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[27]),
    )  # fmt: skip


@entry
def depthwise_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, taps, weights, bias, slope, target map, strides, activation, target."""
    r, s = words_at(record, 28), words_at(state, STATE_WORDS)
    return convolve_depthwise(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_at(r, 6), floats_3d_at(r, 8), floats_at(r, 12), floats_at(r, 14),
        map_at(r, 16), pixels_at(pixels, count), r[20], r[21], act_at(r, 22), Test(mode, limit, block),
        scratch_of(s, worker), mask_of(s, r[27]),
    )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Why a convolution cannot be cached, or None."""
    weight = graph.constants.get(node.inputs[1])
    if weight is None or (len(node.inputs) > 2 and node.inputs[2] and node.inputs[2] not in graph.constants):
        return "weights are computed, not constant"
    if weight.dtype != np.float32:
        return f"weights are {weight.dtype}, not float32"
    return None


def window_reads(builder: Builder, node: Node, value: Value, kernel: tuple[int, int]) -> tuple[Read, ...]:
    """Reads of a sliding window with the node's strides, dilations and pads, over each map of a value."""
    _, height, width = builder.shape(node.output)
    (sy, sx), (dy, dx) = node.attrs["strides"], node.attrs["dilations"]
    top, left = node.attrs["pads"][:2]
    rows = window(value.height, height, kernel[0], sy, dy, top)
    columns = window(value.width, width, kernel[1], sx, dx, left)
    return tuple(Read(int(m), rows, columns) for m in np.unique(value.maps))


def window_border(builder: Builder, node: Node, value: Value, kernel: tuple[int, int]) -> None:
    """Ask for the border that the node's window needs around its input."""
    _, height, width = builder.shape(node.output)
    (sy, sx), (dy, dx) = node.attrs["strides"], node.attrs["dilations"]
    top, left = node.attrs["pads"][:2]
    above, below = reach(value.height, height, kernel[0], sy, dy, top)
    before, after = reach(value.width, width, kernel[1], sx, dx, left)
    builder.border(value, (above, before, below, after))


def lower(node: Node, builder: Builder) -> None:
    """Add a convolution to the plan."""
    weight = builder.graph.constants[node.inputs[1]]
    groups = node.attrs["groups"]
    value = builder.values[node.inputs[0]]
    if groups > 1 and groups == len(value) == weight.shape[0]:
        lower_depthwise(node, builder, weight)
        return
    blocks = None if builder.is_interleaved(value) else value.blocks()
    kernel = (weight.shape[2], weight.shape[3])
    channels, height, width = builder.shape(node.output)
    target, _ = builder.new_value(node.output, channels, height, width)
    winograd = blocks is not None and suits(builder, node, weight)
    filters = None
    if blocks is not None and groups == 1:
        whole = blocks.is_injective and not blocks.is_scattered
        inputs, outputs = len(blocks) if whole else -(-len(value) // LANES), -(-channels // LANES)
        tiles = take_tiling(builder, node, weight, (height, width), inputs, outputs)
        if tiles is not None:
            value, blocks = builder.dense_blocks(node.inputs[0])
            filters = dense_filters(weight, blocks, tiles)
    if blocks is not None and winograd and blocks.is_scattered:  # it transforms whole blocks
        value, blocks = builder.dense_blocks(node.inputs[0])
    window_border(builder, node, value, kernel)
    added, work = addend(node, builder, target), macs(builder.graph, node)
    reads = window_reads(builder, node, value, kernel) + added.reads
    size = -(-channels // LANES)
    plain, slope = activation(node.activation, np.arange(channels), size)
    bias = lanes(np.arange(channels), size, bias_of(builder.graph, node, channels))
    if winograd:
        tile_border(builder, node, value)

    def finish(maps: Maps) -> Step:
        place, steady = maps[target].layout, (aligned_copy(bias), aligned_copy(slope))
        act = added.told(plain, maps)
        if blocks is None:
            info = maps[int(value.maps[0])]
            tap, span, packed, width_lanes = pack_interleaved(
                weight, info.row, info.pixel, node.attrs["dilations"], value
            )
        else:
            info, offsets = block_offsets(maps, blocks)
            rounds = bfloat16.suits(builder, node, weight)
            width_lanes = lanes_per_tap(blocks)
            if rounds and width_lanes == HALF:  # pairs of bfloat16 are made of whole blocks
                width_lanes = LANES
            tap, span, packed = pack_weights(
                weight, groups, blocks, offsets, info.row, node.attrs["dilations"], width_lanes
            )
        pads = node.attrs["pads"][:2]
        direct = method(
            convolution, info.corner(*pads), tap, span, width_lanes, aligned_copy(packed), *steady, place,
            node.attrs["strides"], act, target, int(info.outside), macs_px=work / (height * width), channels=channels,
        )  # fmt: skip
        if blocks is not None and rounds and width_lanes == LANES:
            rounded = bfloat16.bfloat16_method(
                direct, info.corner(*pads), tap, span, packed, *steady, place, node.attrs["strides"], act, target
            )
            return Step(node.name, node.op, target, reads, work, channels, True, rounded, direct)
        if blocks is None or not winograd:
            step = Step(node.name, node.op, target, reads, work, channels, True, direct)
            if blocks is None or filters is None:
                return step
            return with_fft(step, fft_method(maps, blocks, filters, pads, *steady, place, act, target), filters)
        fast = winograd_method(maps, blocks, weight, pads, *steady, place, act, target)
        return Step(node.name, node.op, target, reads, work, channels, True, fast, direct)

    builder.emit(finish)


def lower_depthwise(node: Node, builder: Builder, weight: Floats) -> None:
    """Add a convolution whose every channel is its own group."""
    value, blocks = builder.dense_blocks(node.inputs[0])
    kernel = (weight.shape[2], weight.shape[3])
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, blocks, height, width)
    window_border(builder, node, value, kernel)
    reads, work = window_reads(builder, node, value, kernel), macs(builder.graph, node)
    act, slope = activation(node.activation, blocks.position, len(blocks))
    bias = lanes(blocks.position, len(blocks), bias_of(builder.graph, node, channels))
    packed = np.zeros((kernel[0] * kernel[1], len(blocks) * LANES), np.float32)
    packed[:, blocks.position] = weight.reshape(channels, -1).T
    packed = packed.reshape(-1, len(blocks), LANES).transpose(1, 0, 2)
    tiles = take_tiling(builder, node, weight, (height, width), 0, len(blocks))
    filters = None if tiles is None else depthwise_filters(weight, blocks, tiles)

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        taps, pads = window_taps(kernel, info.row, info.pixel, node.attrs["dilations"]), node.attrs["pads"][:2]
        place, steady = maps[target].layout, (aligned_copy(bias), aligned_copy(slope))
        made = method(
            depthwise_convolution, info.corner(*pads), planes, taps.reshape(-1),
            aligned_copy(packed).reshape(packed.shape), *steady, place, node.attrs["strides"], act, target,
            macs_px=work / (height * width), channels=channels,
        )  # fmt: skip
        step = Step(node.name, node.op, target, reads, work, channels, True, made)
        if filters is None:
            return step
        return with_fft(step, fft_method(maps, blocks, filters, pads, *steady, place, act, target), filters)

    builder.emit(finish)


def bias_of(graph: Graph, node: Node, channels: int) -> Floats:
    """The node's bias, float32[channels]; zeros where it has none."""
    if len(node.inputs) > 2 and node.inputs[2]:
        return np.asarray(graph.constants[node.inputs[2]], np.float32)
    return np.zeros(channels, np.float32)
