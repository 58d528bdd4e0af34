"""Convolution: direct on listed pixels, depthwise where every channel is its own group, from the interleaved image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.geometry import reach, window
from cache.graph import Graph, Node, macs
from cache.steps import Floats, Pixels, Read, State, Step
from cache.values import Blocks, Value
from cache.winograd import WinogradStep, arguments, suits, tile_border
from kernels.conv import convolve, convolve_depthwise
from kernels.layout import Act, Map, Test
from kernels.target import MAX_VECTORS

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ConvStep(Step):
    """Arguments of `kernels.conv.convolve`, decided."""

    source: Map
    destination: Map
    taps: Ints
    spans: Ints
    lanes: int
    weights: Floats
    bias: Floats
    slope: Floats
    stride: tuple[int, int]
    act: Act

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            convolve(
                state.arena, self.source, self.taps, self.spans, self.lanes, self.weights, self.bias, self.slope,
                self.destination, pixels, self.stride[0], self.stride[1], self.act, test, state.scratch,
                state.written[self.target],
            )
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DepthwiseStep(Step):
    """Arguments of `kernels.conv.convolve_depthwise`, decided."""

    source: Map
    destination: Map
    planes: Ints
    taps: Ints
    weights: Floats
    bias: Floats
    slope: Floats
    stride: tuple[int, int]
    act: Act

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            convolve_depthwise(
                state.arena, self.source, self.planes, self.taps, self.weights, self.bias, self.slope,
                self.destination, pixels, self.stride[0], self.stride[1], self.act, test, state.scratch,
                state.written[self.target],
            )
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
    if blocks is not None and blocks.is_scattered:
        value, blocks = builder.dense_blocks(node.inputs[0])
    kernel = (weight.shape[2], weight.shape[3])
    channels, height, width = builder.shape(node.output)
    target, _ = builder.new_value(node.output, channels, height, width)
    window_border(builder, node, value, kernel)
    reads, work = window_reads(builder, node, value, kernel), macs(builder.graph, node)
    size = -(-channels // LANES)
    act, slope = activation(node.activation, np.arange(channels), size)
    bias = lanes(np.arange(channels), size, bias_of(builder.graph, node, channels))

    winograd = blocks is not None and suits(builder, node, weight, target)
    if winograd:
        tile_border(builder, node, value)

    def finish(maps: Maps) -> Step:
        if blocks is not None and winograd:
            source, planes, tap, span, packed = arguments(maps, blocks, weight, node.attrs["pads"][:2], pack_weights)
            return WinogradStep(
                node.name, node.op, target, reads, work, channels, True, source, maps[target].layout, planes, tap, span,
                packed, aligned_copy(bias), aligned_copy(slope), act,
            )  # fmt: skip
        if blocks is None:
            info = maps[int(value.maps[0])]
            tap, span, packed, width_lanes = pack_interleaved(
                weight, info.row, info.pixel, node.attrs["dilations"], value
            )
        else:
            info, offsets = block_offsets(maps, blocks)
            tap, span, packed = pack_weights(weight, groups, blocks, offsets, info.row, node.attrs["dilations"])
            width_lanes = LANES
        source = info.corner(*node.attrs["pads"][:2])
        return ConvStep(
            node.name, node.op, target, reads, work, channels, True, source, maps[target].layout, tap, span,
            width_lanes, aligned_copy(packed), aligned_copy(bias), aligned_copy(slope), node.attrs["strides"], act,
        )  # fmt: skip

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

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        taps = window_taps(kernel, info.row, info.pixel, node.attrs["dilations"])
        return DepthwiseStep(
            node.name, node.op, target, reads, work, channels, True, info.corner(*node.attrs["pads"][:2]),
            maps[target].layout, planes, taps.reshape(-1), aligned_copy(packed).reshape(packed.shape),
            aligned_copy(bias), aligned_copy(slope), node.attrs["strides"], act,
        )  # fmt: skip

    builder.emit(finish)


def bias_of(graph: Graph, node: Node, channels: int) -> Floats:
    """The node's bias, float32[channels]; zeros where it has none."""
    if len(node.inputs) > 2 and node.inputs[2]:
        return np.asarray(graph.constants[node.inputs[2]], np.float32)
    return np.zeros(channels, np.float32)


def window_taps(kernel: tuple[int, int], row: int, pixel: int, dilations: tuple[int, int]) -> Ints:
    """int64[kh, kw]: byte offset of each tap from the window's first pixel."""
    ky = np.arange(kernel[0], dtype=np.int64)[:, None] * dilations[0] * row
    kx = np.arange(kernel[1], dtype=np.int64)[None, :] * dilations[1] * pixel
    return (ky + kx) * 4


def block_groups(blocks: int) -> list[tuple[int, int]]:
    """Split output blocks into (first, count) groups of at most `MAX_VECTORS`, none alone where it can be helped."""
    groups, at = [], 0
    while at < blocks:
        left = blocks - at
        count = min(left, MAX_VECTORS)
        if left == count + 1 and count > 2:
            count -= 1
        groups.append((at, count))
        at += count
    return groups


def pack_weights(
    weight: Floats, groups: int, blocks: Blocks, offsets: Ints, row: int, dilations: tuple[int, int]
) -> tuple[Ints, Ints, Floats]:
    """Tap table, spans and weights of `kernels.conv.convolve` for a view of blocked maps.

    offsets : int64[blocks], element offset of each touched block from the source's origin. A group of output blocks
    lists only the input blocks that its convolution groups see. Returns int64[taps], int64[groups, 5], float32[:].
    """
    outputs, per_group, kh, kw = weight.shape
    share = outputs // groups
    window_offsets = window_taps((kh, kw), row, LANES, dilations)
    taps, spans, packed, tap_at, weight_at = [], [], [], 0, 0
    for first, count in block_groups(-(-outputs // LANES)):
        low, high = first * LANES, min((first + count) * LANES, outputs)
        inputs = np.arange(low // share * per_group, ((high - 1) // share + 1) * per_group)
        seen = np.unique(blocks.position[inputs] // LANES)
        slot = np.full(len(blocks), -1, np.int64)
        slot[seen] = np.arange(seen.size)
        matrix = np.zeros((seen.size * LANES, kh, kw, count * LANES), np.float32)
        for out in range(low, high):
            source = np.arange(out // share * per_group, (out // share + 1) * per_group)
            where = blocks.position[source]
            np.add.at(matrix[..., out - low], slot[where // LANES] * LANES + where % LANES, weight[out])
        group = matrix.reshape(seen.size, LANES, kh, kw, count * LANES).transpose(0, 2, 3, 1, 4)
        table = (offsets[seen, None, None] * 4 + window_offsets).reshape(-1)
        spans.append((first, count, tap_at, table.size, weight_at))
        taps.append(table)
        packed.append(group.reshape(-1))
        tap_at += table.size
        weight_at += group.size
    return np.concatenate(taps), np.array(spans, np.int64), np.concatenate(packed)


def pack_interleaved(
    weight: Floats, row: int, pixel: int, dilations: tuple[int, int], value: Value
) -> tuple[Ints, Ints, Floats, int]:
    """The same for an interleaved map: three lanes per tap when it has three channels, else one; and that number."""
    outputs, _, kh, kw = weight.shape
    mixed = np.zeros((outputs, pixel, kh, kw), np.float32)
    np.add.at(mixed.transpose(1, 0, 2, 3), value.channels, weight.transpose(1, 0, 2, 3))
    width = 3 if pixel == 3 else 1
    table = window_taps((kh, kw), row, pixel, dilations)[:, :, None] + np.arange(0, pixel, width) * 4
    spans, packed, weight_at = [], [], 0
    for first, count in block_groups(-(-outputs // LANES)):
        part = np.zeros((count * LANES, pixel, kh, kw), np.float32)
        chosen = mixed[first * LANES : (first + count) * LANES]
        part[: len(chosen)] = chosen
        group = part.transpose(2, 3, 1, 0)  # kh, kw, channel, output
        spans.append((first, count, 0, table.size, weight_at))
        packed.append(group.reshape(-1))
        weight_at += group.size
    return table.reshape(-1).astype(np.int64), np.array(spans, np.int64), np.concatenate(packed), width
