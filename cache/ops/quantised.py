"""Convolution of bytes: int8 weights, int32 sums, requantised; dense, grouped or depthwise.

Zero points never reach the kernel: what they add to a sum is known for each pixel from the part of its window that lies
in the map, so it is put into the bias, one row of biases for each class of pixels that see the same part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, lanes
from cache.graph import Graph, Node, macs
from cache.ops.conv import window_border, window_reads
from cache.ops.slots import (
    SLOT,
    dense_slots,
    is_narrow,
    mirror_slots,
    new_byte_value,
    quarter_offsets,
    stored_offset,
    table_words,
)
from cache.packing import window_taps
from cache.steps import Step, method
from cache.values import Blocks, Ints
from kernels.byte_maps import Exit
from kernels.byte_records import bytes_at, exit_at, halves_at, signed_bytes_at
from kernels.emit_int8 import BYTE_VECTORS, INPUT_OFFSET, QUADS
from kernels.layout import Test
from kernels.quantised import convolve_bytes, convolve_bytes_depthwise
from kernels.record import (
    STATE_WORDS,
    arena_of,
    entry,
    floats_at,
    index_2d_at,
    index_at,
    ints_2d_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)

FASTER = 3.5
"""Products of bytes for one of float32, in the guess of a step's cost."""

Index = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.int8]


@entry
def byte_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, taps, spans, weights, bias, rows, columns, scale, exit, table, target map, strides, target."""
    r, s = words_at(record, 32), words_at(state, STATE_WORDS)
    return convolve_bytes(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_2d_at(r, 6), signed_bytes_at(r, 9), index_2d_at(r, 11),
        index_at(r, 14), index_at(r, 16), floats_at(r, 18), exit_at(r, 20), bytes_at(r, 23), map_at(r, 25),
        pixels_at(pixels, count), r[29], r[30], Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[31]),
    )  # fmt: skip


@entry
def byte_depthwise_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, taps, weights, bias, rows, columns, scale, exit, table, target map, strides, target."""
    r, s = words_at(record, 32), words_at(state, STATE_WORDS)
    return convolve_bytes_depthwise(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_at(r, 6), halves_at(r, 8), index_2d_at(r, 10), index_at(r, 13),
        index_at(r, 15), floats_at(r, 17), exit_at(r, 19), bytes_at(r, 22), map_at(r, 24), pixels_at(pixels, count),
        r[28], r[29], Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[30]),
    )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Every convolution of bytes of the normal form can be cached."""
    return None


def lower(node: Node, builder: Builder) -> None:
    """Add a convolution of bytes to the plan."""
    weight: Bytes = builder.graph.constants[node.inputs[1]]
    groups, value = node.attrs["groups"], builder.values[node.inputs[0]]
    if groups > 1 and groups == len(value) == weight.shape[0]:
        lower_depthwise(node, builder, weight)
        return
    blocks = value.blocks()
    if not blocks.is_injective:
        value, blocks = dense_slots(builder, node.inputs[0])[0], builder.values[node.inputs[0]].blocks()
    narrow = is_narrow(builder, value)
    channels, height, width = builder.shape(node.output)
    target, _ = new_byte_value(builder, node.output, channels, height, width)
    kernel = (weight.shape[2], weight.shape[3])
    window_border(builder, node, value, kernel)
    reads, work = window_reads(builder, node, value, kernel), macs(builder.graph, node)
    bias, rows, columns = biases(builder, node, weight, (value.height, value.width), INPUT_OFFSET)
    size = -(-channels // LANES)
    packed_bias = np.zeros((len(bias), size * LANES), np.int32)
    packed_bias[:, :channels] = bias
    scale = lanes(np.arange(channels), size, node.attrs["scale"])
    ending, table = ending_of(builder.graph, node), table_words(node.attrs["table"])

    def finish(maps: Maps) -> Step:
        info, offsets = quarter_offsets(maps, blocks)
        if narrow:
            taps, spans, packed = pack_narrow_weights(weight, info.row * 4, node.attrs["dilations"])
        else:
            window = window_taps(kernel, info.row, info.pixel, node.attrs["dilations"])
            taps, spans, packed = pack_byte_weights(weight, groups, blocks, offsets, window)
        made = method(
            byte_convolution, info.corner(*node.attrs["pads"][:2]), taps, spans, packed, packed_bias, rows, columns,
            scale, ending, table, maps[target].layout, *node.attrs["strides"], target,
            macs_px=work / (height * width) / FASTER, channels=channels,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, work, channels, True, made)

    builder.emit(finish)


def lower_depthwise(node: Node, builder: Builder, weight: Bytes) -> None:
    """Add a convolution of bytes whose every channel is its own group."""
    value = dense_slots(builder, node.inputs[0])[0]
    blocks = value.blocks()
    channels, height, width = builder.shape(node.output)
    target = mirror_slots(builder, node.output, -(-len(blocks) * LANES // SLOT), blocks.position, height, width)
    kernel = (weight.shape[2], weight.shape[3])
    window_border(builder, node, value, kernel)
    reads, work = window_reads(builder, node, value, kernel), macs(builder.graph, node)
    bias, rows, columns = biases(builder, node, weight, (value.height, value.width), 0)
    packed_bias = np.zeros((len(bias), len(blocks) * LANES), np.int32)
    packed_bias[:, blocks.position] = bias
    scale = lanes(blocks.position, len(blocks), node.attrs["scale"])
    packed = np.zeros((kernel[0] * kernel[1], len(blocks) * LANES), np.int16)
    packed[:, blocks.position] = weight.reshape(channels, -1).T
    packed = np.ascontiguousarray(packed.reshape(-1, len(blocks), LANES).transpose(1, 0, 2)).reshape(-1)
    ending, table = ending_of(builder.graph, node), table_words(node.attrs["table"])

    def finish(maps: Maps) -> Step:
        info, planes = quarter_offsets(maps, blocks)
        taps = window_taps(kernel, info.row, info.pixel, node.attrs["dilations"]).reshape(-1)
        made = method(
            byte_depthwise_convolution, info.corner(*node.attrs["pads"][:2]), planes, taps, packed.view(np.int32),
            packed_bias, rows, columns, scale, ending, table, maps[target].layout, *node.attrs["strides"], target,
            macs_px=work / (height * width), channels=channels,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, work, channels, True, made)

    builder.emit(finish)


def ending_of(graph: Graph, node: Node) -> Exit:
    """How the node's scaled sums become stored bytes."""
    zero, (low, high) = node.attrs["out_zero_point"], node.attrs["limits"]
    return Exit(float(low - zero), float(high - zero), int(zero + stored_offset(graph, node.output)))


def biases(
    builder: Builder, node: Node, weight: Bytes, size: tuple[int, int], offset: int
) -> tuple[npt.NDArray[np.int64], Index, Index]:
    """int64[classes, outputs] biases with what zero points add, and the classes of rows and of columns.

    size : of the input. offset : what the kernel takes from every byte, in the border too.
    """
    graph = builder.graph
    channels, height, width = builder.shape(node.output)
    zero = node.attrs["zero_point"] + stored_offset(graph, node.inputs[0])
    start = np.zeros(channels, np.int64)
    if len(node.inputs) > 2:
        start += graph.constants[node.inputs[2]]
    by_tap = weight.astype(np.int64).sum(axis=1)
    start += offset * by_tap.sum(axis=(1, 2))
    if zero == 0:
        return start[None], np.zeros(height, np.int32), np.zeros(width, np.int32)
    (sy, sx), (dy, dx), pads = node.attrs["strides"], node.attrs["dilations"], node.attrs["pads"]
    above, row_class = inside(size[0], height, weight.shape[2], sy, dy, pads[0])
    before, column_class = inside(size[1], width, weight.shape[3], sx, dx, pads[1])
    met = np.einsum("ai,oij,bj->abo", above, by_tap, before)
    return (start - zero * met).reshape(-1, channels), row_class * np.int32(len(before)), column_class


def inside(
    inputs: int, outputs: int, kernel: int, stride: int, dilation: int, pad: int
) -> tuple[npt.NDArray[np.int64], Index]:
    """Which taps meet the map along one axis: the cases that occur, int64[classes, kernel], and each output's."""
    at = np.arange(outputs)[:, None] * stride - pad + np.arange(kernel) * dilation
    cases, which = np.unique((at >= 0) & (at < inputs), axis=0, return_inverse=True)
    return cases.astype(np.int64), which.reshape(-1).astype(np.int32)


def vector_groups(vectors: int) -> list[tuple[int, int]]:
    """Split lane vectors of outputs into (first, count) groups of about one size, at most `BYTE_VECTORS`."""
    groups = -(-vectors // BYTE_VECTORS)
    ends = [(i + 1) * vectors // groups for i in range(groups)]
    return [(first, end - first) for first, end in zip([0, *ends], ends, strict=False)]


def pack_byte_weights(
    weight: Bytes, groups: int, blocks: Blocks, offsets: Ints, window: Ints
) -> tuple[Ints, Ints, Index]:
    """Tap table, spans and weights of `kernels.quantised.convolve_bytes` for a view of byte maps.

    offsets : int64[blocks], byte offset of each touched quarter of a slot. window : int64[kh, kw], bytes.
    Returns int64[taps], int64[groups, 5], and the int8 weights as int32.
    """
    outputs, per_group, kh, kw = weight.shape
    share = outputs // groups
    taps, spans, packed, tap_at, weight_at = [], [], [], 0, 0
    for first, count in vector_groups(-(-outputs // LANES)):
        low, high = first * LANES, min((first + count) * LANES, outputs)
        inputs = np.arange(low // share * per_group, ((high - 1) // share + 1) * per_group)
        seen = np.unique(blocks.position[inputs] // LANES)
        slot = np.full(len(blocks), -1, np.int64)
        slot[seen] = np.arange(seen.size)
        matrix = np.zeros((seen.size * LANES, kh, kw, count * LANES), np.int8)
        for out in range(low, high):
            where = blocks.position[np.arange(out // share * per_group, (out // share + 1) * per_group)]
            matrix[slot[where // LANES] * LANES + where % LANES, :, :, out - low] = weight[out]
        group = matrix.reshape(seen.size, QUADS, 4, kh, kw, count * LANES).transpose(0, 3, 4, 1, 5, 2)
        table = (offsets[seen, None, None] + window).reshape(-1)
        spans.append((first, count, tap_at, table.size, weight_at))
        taps.append(table)
        packed.append(group.reshape(-1))
        tap_at += table.size
        weight_at += group.size
    return np.concatenate(taps), np.array(spans, np.int64), aligned_words(np.concatenate(packed))


def pack_narrow_weights(weight: Bytes, row: int, dilations: tuple[int, int]) -> tuple[Ints, Ints, Index]:
    """The same for slots of 4 bytes, `row` bytes from a row to the next: a tap holds four pixels of a row.

    With a dilation in the row each tap is one pixel, and the three after it have no weights.
    """
    outputs, channels, kh, kw = weight.shape
    per_tap = QUADS if dilations[1] == 1 else 1
    columns = -(-kw // per_tap)
    padded = np.zeros((-(-outputs // LANES) * LANES, 4, kh, columns * per_tap), np.int8)
    padded[:outputs, :channels, :, :kw] = weight
    every = np.zeros((kh, columns, QUADS, len(padded), 4), np.int8)
    every[:, :, :per_tap] = padded.reshape(len(padded), 4, kh, columns, per_tap).transpose(2, 3, 4, 0, 1)
    step = 4 * (QUADS if per_tap > 1 else dilations[1])
    table = np.add.outer(np.arange(kh) * dilations[0] * row, np.arange(columns) * step).reshape(-1)
    spans, packed, weight_at = [], [], 0
    for first, count in vector_groups(len(padded) // LANES):
        group = every[:, :, :, first * LANES : (first + count) * LANES]
        spans.append((first, count, 0, table.size, weight_at))
        packed.append(group.reshape(-1))
        weight_at += group.size
    return table.astype(np.int64), np.array(spans, np.int64), aligned_words(np.concatenate(packed))


def aligned_words(values: npt.NDArray[Any]) -> Index:
    """Bytes as int32[n], 64-byte aligned, read-only."""
    words: Index = aligned_zeros(-(-values.nbytes // 4)).view(np.int32)
    words.view(values.dtype)[: values.size] = values
    words.flags.writeable = False
    return words
