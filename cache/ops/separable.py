"""Depthwise separable convolution: a depthwise one and the 1x1 convolution that alone reads it, as one step.

What lies between the two is never stored: half the memory of such a network, and half of what a whole frame must write.
The price is one test less: what the 1x1 convolution recomputes is all that the depthwise one's window sees. So it is
done for large maps alone, where memory is what costs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from cache.addition import addend
from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.fft import surely_gains
from cache.graph import Graph, Node, macs
from cache.ops.conv import bias_of, window_border, window_reads
from cache.packing import lanes_of_blocks, pack_weights, window_taps
from cache.steps import Step, method
from cache.values import Blocks
from kernels.layout import Test
from kernels.record import (
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
    work_of,
)
from kernels.separable import convolve_separable, work_elements


@entry
def separable_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, window, kernels, bias, slope, activation, strides; taps, spans, lanes, weights, bias, slope,
    target map, activation, target."""
    r, s = words_at(record, 45), words_at(state, STATE_WORDS)
    return convolve_separable(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_at(r, 6), floats_3d_at(r, 8), floats_at(r, 12), floats_at(r, 14),
        act_at(r, 16), r[21], r[22], ints_at(r, 23), ints_2d_at(r, 25), r[28], floats_at(r, 29), floats_at(r, 31),
        floats_at(r, 33), map_at(r, 35), pixels_at(pixels, count), act_at(r, 39), Test(mode, limit, block),
        scratch_of(s, worker), work_of(s, worker), mask_of(s, r[44]),
    )  # fmt: skip


def pairs(
    graph: Graph, nodes: Collection[Node], kept: Collection[str], from_bytes: int, fft_kept: float = 0.0
) -> dict[str, Node]:
    """By name of the 1x1 convolution, the depthwise one that it alone reads and that need not be stored.

    nodes : those that are cached. kept : tensors that must be stored: outputs, inputs of tails; nodes with rules of
    their own are named by these too. from_bytes : size of the map between the two from which it is not stored.
    fft_kept : share of the frequencies that Fourier transforms of large filters keep, 0 for none: convolutions that
    surely gain by them are left to them.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    cached = {node.name for node in nodes}
    found = {}
    for first in nodes:
        if first.op != "conv" or first.output in kept or first.name in kept or not is_depthwise(graph, first):
            continue
        after = readers.get(first.output, [])
        known = graph.type_of(first.output)
        assert known is not None
        size = int(np.prod(known.shape)) * 4
        joined = len(after) == 1 and after[0].name in cached and is_pointwise(graph, after[0]) and size >= from_bytes
        if joined and not surely_gains(graph, first, fft_kept):
            found[after[0].name] = first
    return found


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether every channel of a convolution is its own group."""
    weight = graph.constants[node.inputs[1]]
    known = graph.type_of(node.inputs[0])
    return known is not None and 1 < node.attrs["groups"] == weight.shape[0] == known.shape[1]


def is_pointwise(graph: Graph, node: Node) -> bool:
    """Whether a node is a 1x1 convolution of all channels, pixel by pixel."""
    if node.op != "conv" or node.inputs[1] not in graph.constants:
        return False
    attrs = node.attrs
    plain = attrs["strides"] == (1, 1) and attrs["groups"] == 1 and not any(attrs["pads"])
    return plain and graph.constants[node.inputs[1]].shape[2:] == (1, 1)


def lower(first: Node, node: Node, builder: Builder) -> None:
    """Add a depthwise convolution and the 1x1 convolution after it to the plan, under the name of the latter."""
    kernel_weight, weight = (builder.graph.constants[n.inputs[1]] for n in (first, node))
    value, blocks = builder.dense_blocks(first.inputs[0])
    kernel = (kernel_weight.shape[2], kernel_weight.shape[3])
    channels, height, width = builder.shape(node.output)
    inner = weight.shape[1]
    target, _ = builder.new_value(node.output, channels, height, width)
    window_border(builder, first, value, kernel)
    added = addend(node, builder, target)
    reads = window_reads(builder, first, value, kernel) + added.reads
    work = macs(builder.graph, first) + macs(builder.graph, node)
    first_act, first_slope = activation(first.activation, blocks.position, len(blocks))
    first_bias = lanes(blocks.position, len(blocks), bias_of(builder.graph, first, inner))
    packed = np.zeros((kernel[0] * kernel[1], len(blocks) * LANES), np.float32)
    packed[:, blocks.position] = kernel_weight.reshape(inner, -1).T
    packed = packed.reshape(-1, len(blocks), LANES).transpose(1, 0, 2)
    size = -(-channels // LANES)
    plain, slope = activation(node.activation, np.arange(channels), size)
    bias = lanes(np.arange(channels), size, bias_of(builder.graph, node, channels))
    numbers = np.arange(len(blocks), dtype=np.int64)
    between = Blocks(np.zeros_like(numbers), numbers, blocks.position)
    read = lanes_of_blocks(between)
    taps, spans, mixed = pack_weights(weight, 1, between, numbers * LANES, 0, (1, 1), read)

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        act = added.told(plain, maps)
        window = window_taps(kernel, info.row, info.pixel, first.attrs["dilations"]).reshape(-1)
        made = method(
            separable_convolution, info.corner(*first.attrs["pads"][:2]), planes, window,
            aligned_copy(packed).reshape(packed.shape), aligned_copy(first_bias), aligned_copy(first_slope), first_act,
            first.attrs["strides"], taps, spans, read, aligned_copy(mixed), aligned_copy(bias), aligned_copy(slope),
            maps[target].layout, act, target, macs_px=work / (height * width), channels=channels,
        )  # fmt: skip
        made = replace(made, work_elements=work_elements(len(blocks)))
        return Step(node.name, node.op, target, reads, work, channels, True, made)

    builder.emit(finish)
