"""Steps on byte maps besides convolution: to and from float32, look-ups, sums and products, pooling, copies, views."""

from __future__ import annotations

import numpy as np

from cache.arena import LANES, aligned_zeros
from cache.builder import Builder, Maps, block_offsets, whole_reads
from cache.geometry import gather
from cache.graph import Graph, Node
from cache.ops import concat, resize, select_channels
from cache.ops.conv import window_reads
from cache.ops.copies import copy
from cache.ops.eltwise import combined_reads
from cache.ops.slots import (
    SLOT,
    dense_slots,
    mirror_slots,
    new_narrow_value,
    pack_slots,
    quarter_offsets,
    slot_offsets,
    slots_of,
    stored_offset,
    table_words,
)
from cache.steps import Read, Step, method
from kernels.byte_maps import Exit, Terms, combine_bytes, dequantise, look_up, pool_max_bytes, quantise, quantise_image
from kernels.byte_records import bytes_at, exit_at, terms_at
from kernels.constants import ADD, MUL
from kernels.layout import Map, Test, Window, unchanged
from kernels.record import (
    IMAGE,
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
def quantising(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, scale, exit, table, target map, target."""
    r, s = words_at(record, 17), words_at(state, STATE_WORDS)
    return quantise(
        arena_of(s), map_at(r, 0), ints_at(r, 4), r.view(np.float64)[6], exit_at(r, 7), bytes_at(r, 10), map_at(r, 12),
        pixels_at(pixels, count), Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[16]),
    )  # fmt: skip


@entry
def image_quantising(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, channels, scale, exit, target map, target, outside.

    outside : 1 where the source is the image outside the arena.
    """
    r, s = words_at(record, 15), words_at(state, STATE_WORDS)
    source = Map(r[0] + r[14] * s[IMAGE], r[1], r[2], r[3])
    return quantise_image(
        arena_of(s), source, r[4], r.view(np.float64)[5], exit_at(r, 6), map_at(r, 9), pixels_at(pixels, count),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[13]),
    )  # fmt: skip


@entry
def dequantising(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, scale, zero point, slope, target map, target."""
    r, s = words_at(record, 16), words_at(state, STATE_WORDS)
    return dequantise(
        arena_of(s), map_at(r, 0), ints_at(r, 4), floats_at(r, 6), r[8], floats_at(r, 9), map_at(r, 11),
        pixels_at(pixels, count), unchanged(), Test(mode, limit, block), scratch_of(s, worker),
        mask_of(s, r[15]),
    )  # fmt: skip


@entry
def looking_up(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, table, target map, target."""
    r, s = words_at(record, 13), words_at(state, STATE_WORDS)
    return look_up(
        arena_of(s), map_at(r, 0), ints_at(r, 4), bytes_at(r, 6), map_at(r, 8), pixels_at(pixels, count),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[12]),
    )  # fmt: skip


@entry
def byte_combination(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """code, first, its planes, second, its planes, vectors, terms, exit, table, target map, target."""
    r, s = words_at(record, 29), words_at(state, STATE_WORDS)
    return combine_bytes(
        r[0], arena_of(s), map_at(r, 1), ints_at(r, 5), map_at(r, 7), ints_at(r, 11), r[13], terms_at(r, 14),
        exit_at(r, 19), bytes_at(r, 22), map_at(r, 24), pixels_at(pixels, count), Test(mode, limit, block),
        scratch_of(s, worker), mask_of(s, r[28]),
    )  # fmt: skip


@entry
def byte_pooling(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, height and width of the source, window, target map, target."""
    r, s = words_at(record, 23), words_at(state, STATE_WORDS)
    return pool_max_bytes(
        arena_of(s), map_at(r, 0), ints_at(r, 4), r[6], r[7], window_at(r, 8), map_at(r, 18), pixels_at(pixels, count),
        Test(mode, limit, block), scratch_of(s, worker), mask_of(s, r[22]),
    )  # fmt: skip


def supports(graph: Graph, node: Node) -> str | None:
    """Why an op on bytes cannot be cached, or None."""
    if node.op == "q_resize":
        return resize.supports(graph, node)
    if node.op == "q_concat":
        return concat.supports(graph, node)
    return None


def is_read_by_pixels(graph: Graph, node: Node) -> bool:
    """Whether what a quantise node makes of up to four channels may lie in slots of 4 bytes: for convolutions alone."""
    readers = graph.consumers.get(node.output, ())
    direct = all(n.op == "q_conv" and n.attrs["groups"] == 1 for n in readers)
    return direct and node.attrs["table"] is None and node.output not in graph.outputs


def lower_quantise(node: Node, builder: Builder) -> None:
    """Add a quantisation to the plan; of an image that only convolutions read, into slots of 4 bytes."""
    low, high = limits_of(builder.graph, node.output)
    zero = node.attrs["zero_point"]
    ending = Exit(float(low - zero), float(high - zero), int(zero + stored_offset(builder.graph, node.output)))
    channels, height, width = builder.shape(node.output)
    value, scale, table = builder.values[node.inputs[0]], float(node.attrs["scale"]), node.attrs["table"]
    plain = np.array_equal(value.channels, np.arange(channels)) and np.unique(value.maps).size == 1
    if channels <= 4 and plain and is_read_by_pixels(builder.graph, node):
        index, source = new_narrow_value(builder, node.output, channels, height, width), int(value.maps[0])

        def finish_image(maps: Maps) -> Step:
            info = maps[source]
            made = method(
                image_quantising, info.layout, channels, scale, ending, maps[index].layout, index, int(info.outside)
            )
            return Step(node.name, node.op, index, whole_reads(value), 0, channels, False, made)

        builder.emit(finish_image)
        return
    value, blocks = builder.dense_blocks(node.inputs[0])
    target = mirror_slots(builder, node.output, -(-len(blocks) * LANES // SLOT), blocks.position, height, width)

    def finish(maps: Maps) -> Step:
        info, planes = block_offsets(maps, blocks)
        made = method(quantising, info.layout, planes, scale, ending, table_words(table), maps[target].layout, target)
        return Step(node.name, node.op, target, whole_reads(value), 0, channels, False, made)

    builder.emit(finish)


def limits_of(graph: Graph, tensor: str) -> tuple[int, int]:
    """Smallest and largest value of a byte tensor."""
    return (-128, 127) if stored_offset(graph, tensor) else (0, 255)


def lower_dequantise(node: Node, builder: Builder) -> None:
    """Add a way back to float32 to the plan."""
    value = builder.values[node.inputs[0]]
    quarters = value.blocks()
    channels, height, width = builder.shape(node.output)
    target = builder.mirror(node.output, quarters, height, width)
    zero = int(node.attrs["zero_point"] + stored_offset(builder.graph, node.inputs[0]))
    scale = np.array([node.attrs["scale"]], np.float32)

    def finish(maps: Maps) -> Step:
        info, planes = quarter_offsets(maps, quarters)
        slope = aligned_zeros(len(quarters) * LANES)
        made = method(dequantising, info.layout, planes, scale, zero, slope, maps[target].layout, target)
        return Step(node.name, node.op, target, whole_reads(value), 0, channels, False, made)

    builder.emit(finish)


def lower_lookup(node: Node, builder: Builder) -> None:
    """Add a look-up to the plan."""
    value, slots = dense_slots(builder, node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = mirror_slots(builder, node.output, len(slots), slots.position, height, width)

    def finish(maps: Maps) -> Step:
        info, planes = slot_offsets(maps, slots)
        made = method(looking_up, info.layout, planes, table_words(node.attrs["table"]), maps[target].layout, target)
        return Step(node.name, node.op, target, whole_reads(value), 0, channels, False, made)

    builder.emit(finish)


def lower_combination(node: Node, builder: Builder) -> None:
    """Add a sum or product to the plan; the second operand is packed into the bytes of the first where they differ."""
    value, slots = dense_slots(builder, node.inputs[0])
    other = builder.values[node.inputs[1]]
    mixed = slots_of(other)
    if not np.array_equal(mixed.position, slots.position):
        order = np.full(len(slots) * SLOT, -1, np.int64)
        order[slots.position] = np.arange(len(value))
        other, mixed = pack_slots(builder, node.inputs[1], other, order)
    channels, height, width = builder.shape(node.output)
    target = mirror_slots(builder, node.output, len(slots), slots.position, height, width)
    broadcast = (other.height, other.width) == (1, 1) and (height, width) != (1, 1)
    reads, (terms, ending) = combined_reads(value, other), terms_of(builder.graph, node)
    code, vectors = (ADD if node.op == "q_add" else MUL), int(slots.position.max()) // LANES + 1

    def finish(maps: Maps) -> Step:
        first, first_planes = slot_offsets(maps, slots)
        second, second_planes = slot_offsets(maps, mixed)
        place = Map(second.origin, second.plane, 0, 0) if broadcast else second.layout
        made = method(
            byte_combination, code, first.layout, first_planes, place, second_planes, vectors, terms, ending,
            table_words(node.attrs["table"]), maps[target].layout, target,
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, 0, channels, True, made)

    builder.emit(finish)


def terms_of(graph: Graph, node: Node) -> tuple[Terms, Exit]:
    """The float32 factors that ONNX Runtime's QLinearAdd and QLinearMul take, in its order of rounding."""
    sx, sy, sz = (np.float32(s) for s in node.attrs["scales"])
    zx, zy, zz = node.attrs["zero_points"]
    ox, oy = (stored_offset(graph, name) for name in node.inputs)
    low, high = node.attrs["limits"]
    ending = Exit(float(low), float(high), stored_offset(graph, node.output))
    if node.op == "q_mul":
        return Terms(float(zx + ox), float(zy + oy), float(sx * sy / sz), 0.0, float(zz)), ending
    rx, ry = sx / sz, sy / sz
    fixed = np.float32(zz) - (rx * np.float32(zx) + ry * np.float32(zy))
    return Terms(float(ox), float(oy), float(rx), float(ry), float(fixed)), ending


def lower_max_pool(node: Node, builder: Builder) -> None:
    """Add a maximum pooling to the plan."""
    value, slots = dense_slots(builder, node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = mirror_slots(builder, node.output, len(slots), slots.position, height, width)
    kernel = node.attrs["kernel"]
    reads = window_reads(builder, node, value, kernel)
    window = Window(*kernel, *node.attrs["strides"], *node.attrs["dilations"], *node.attrs["pads"])

    def finish(maps: Maps) -> Step:
        info, planes = slot_offsets(maps, slots)
        made = method(
            byte_pooling, info.layout, planes, value.height, value.width, window, maps[target].layout, target
        )  # fmt: skip
        return Step(node.name, node.op, target, reads, 0, channels, False, made)

    builder.emit(finish)


def lower_copy(node: Node, builder: Builder) -> None:
    """Add a nearest resize, or a slice of rows and columns, to the plan: slots are copied as they are."""
    value, slots = dense_slots(builder, node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target = mirror_slots(builder, node.output, len(slots), slots.position, height, width)
    if node.op == "q_resize":
        rows = resize.axis(node, value.height, height, node.attrs["scales"][0])[0][:, 0]
        columns = resize.axis(node, value.width, width, node.attrs["scales"][1])[0][:, 0]
    else:
        (top, left), (step_y, step_x) = node.attrs["starts"], node.attrs["steps"]
        rows, columns = top + step_y * np.arange(height), left + step_x * np.arange(width)
    rows, columns = (np.ascontiguousarray(index, np.int32) for index in (rows, columns))
    spans = gather(rows), gather(columns)
    reads = tuple(Read(int(m), *spans) for m in np.unique(value.maps))

    def finish(maps: Maps) -> Step:
        info, planes = slot_offsets(maps, slots)
        made = method(copy, info.layout, planes, rows, columns, maps[target].layout, target)
        return Step(node.name, node.op, target, reads, 0, channels, False, made)

    builder.emit(finish)


lower_concat, lower_select = concat.lower, select_channels.lower
