"""Convolution: direct on listed pixels, depthwise where every channel is its own group, from the interleaved image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.geometry import reach, window
from cache.graph import Graph, Node, macs
from cache.packing import pack_interleaved, pack_weights, window_taps
from cache.steps import Floats, Pixels, Read, State, Step
from cache.values import Value
from cache.winograd import WinogradStep, arguments, suits, tile_border
from kernels.conv import convolve, convolve_depthwise
from kernels.layout import Act, Map, Test

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
            source, planes, tap, span, packed = arguments(maps, blocks, weight, node.attrs["pads"][:2])
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
