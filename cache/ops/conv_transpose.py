"""Transposed convolution: one direct convolution per output phase, each on its own lattice of output pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.geometry import phase_taps, transposed_window
from cache.graph import Node, macs
from cache.ops.conv import bias_of, supports
from cache.packing import block_groups
from cache.steps import Floats, Read, Step, method
from cache.values import Blocks
from kernels.conv import convolve
from kernels.layout import Map, Test
from kernels.record import (
    STATE_WORDS,
    act_at,
    arena_of,
    encode,
    entry,
    floats_at,
    ints_2d_at,
    ints_at,
    map_at,
    mask_of,
    pixels_at,
    scratch_of,
    words_at,
)

__all__ = ["lower", "supports"]

Ints = npt.NDArray[np.int64]

PHASE_WORDS = 13


@entry
def transposed_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, phases int64[n, 13], bias, slope, strides, activation, target.

    A phase: its row and column, then target map, taps, spans and weights of one `convolve` over cells of stride x
    stride outputs. Decisions are taken pixel by pixel, whatever block the policy names.
    """
    r, s = words_at(record, 17), words_at(state, STATE_WORDS)
    phases, stride_y, stride_x, written = ints_2d_at(r, 4), r[11], r[12], mask_of(s, r[16])
    listed, total = pixels_at(pixels, count), 0
    cells = np.empty((count, 2), np.int32)
    for p in range(phases.shape[0]):
        phase = phases[p]
        mine = 0
        for i in range(count):
            y, x = listed[i, 0], listed[i, 1]
            if y % stride_y == phase[0] and x % stride_x == phase[1]:
                cells[mine, 0], cells[mine, 1] = y // stride_y, x // stride_x
                mine += 1
        if mine == 0:
            continue
        marks = np.zeros(
            ((written.shape[0] + stride_y - 1) // stride_y, (written.shape[1] + stride_x - 1) // stride_x), np.uint8
        )
        convolve(
            arena_of(s), map_at(r, 0), ints_at(phase, 6), ints_2d_at(phase, 8), LANES, floats_at(phase, 11),
            floats_at(r, 7), floats_at(r, 9), map_at(phase, 2), cells[:mine], 1, 1, act_at(r, 13), Test(mode, limit, 1),
            scratch_of(s, worker), marks,
        )  # fmt: skip
        for i in range(mine):
            y, x = cells[i, 0], cells[i, 1]
            if marks[y, x]:
                marks[y, x] = 0
                total += written[y * stride_y + phase[0], x * stride_x + phase[1]] == 0
                written[y * stride_y + phase[0], x * stride_x + phase[1]] = 1
    return total


def lower(node: Node, builder: Builder) -> None:
    """Add a transposed convolution to the plan."""
    weight = builder.graph.constants[node.inputs[1]]
    value, blocks = builder.dense_blocks(node.inputs[0])
    channels, height, width = builder.shape(node.output)
    target, _ = builder.new_value(node.output, channels, height, width)
    (kh, kw), (sy, sx), (dy, dx) = weight.shape[2:], node.attrs["strides"], node.attrs["dilations"]
    top, left = node.attrs["pads"][:2]
    rows = transposed_window(value.height, height, kh, sy, dy, top)
    columns = transposed_window(value.width, width, kw, sx, dx, left)
    reads = tuple(Read(int(m), rows, columns) for m in np.unique(value.maps))
    lattices = [(p, q, phase_taps(p, kh, sy, dy, top), phase_taps(q, kw, sx, dx, left))
                for p in range(min(sy, height)) for q in range(min(sx, width))]  # fmt: skip
    ys = [o + (height - 1 - p) // sy * e for p, _, ty, _ in lattices for _, o in ty for e in (0, 1)]
    xs = [o + (width - 1 - q) // sx * e for _, q, _, tx in lattices for _, o in tx for e in (0, 1)]
    builder.border(
        value,
        (max(0, -min(ys, default=0)), max(0, -min(xs, default=0)),
         max(0, max(ys, default=0) - value.height + 1), max(0, max(xs, default=0) - value.width + 1)),
    )  # fmt: skip
    work, size = macs(builder.graph, node), -(-channels // LANES)
    act, slope = activation(node.activation, np.arange(channels), size)
    bias = lanes(np.arange(channels), size, bias_of(builder.graph, node, channels))

    def finish(maps: Maps) -> Step:
        info, offsets = block_offsets(maps, blocks)
        out = maps[target]
        table, kept = [], []
        for p, q, taps_y, taps_x in lattices:
            origin = out.origin + p * out.row + q * out.pixel
            place = Map(origin, out.plane, out.row * sy, out.pixel * sx)
            taps, spans, packed = pack_phase(weight, node.attrs["groups"], blocks, offsets, info.row, taps_y, taps_x)
            words, arrays = encode(p, q, place, taps, spans, aligned_copy(packed))
            table.append(words)
            kept.append(arrays)
        made = method(
            transposed_convolution, info.layout, np.stack(table), aligned_copy(bias), aligned_copy(slope), (sy, sx),
            act, target,
        )  # fmt: skip
        made = replace(made, kept=(*made.kept, *(a for arrays in kept for a in arrays)))
        return Step(node.name, node.op, target, reads, work, channels, True, made)

    builder.emit(finish)


def pack_phase(
    weight: Floats, groups: int, blocks: Blocks, offsets: Ints, row: int,
    taps_y: list[tuple[int, int]], taps_x: list[tuple[int, int]],
) -> tuple[Ints, Ints, Floats]:  # fmt: skip
    """Tap table, spans and weights of one phase. weight : float32[Cin, Cout / groups, kh, kw].

    A phase that no tap reaches reads one pixel with zero weights, so that its outputs are the bias.
    """
    inputs, share = weight.shape[:2]
    outputs, per_group = share * groups, inputs // groups
    pairs = [(ky, oy, kx, ox) for ky, oy in taps_y for kx, ox in taps_x]
    shifts = [(oy * row + ox * LANES) * 4 for _, oy, _, ox in pairs] or [0]
    taps, spans, packed, tap_at, weight_at = [], [], [], 0, 0
    for first, count in block_groups(-(-outputs // LANES)):
        matrix = np.zeros((len(blocks) * LANES, len(shifts), count * LANES), np.float32)
        for out in range(first * LANES, min((first + count) * LANES, outputs)):
            group, within = divmod(out, share)
            source = np.arange(group * per_group, (group + 1) * per_group)
            for t, (ky, _, kx, _) in enumerate(pairs):
                matrix[blocks.position[source], t, out - first * LANES] = weight[source, within, ky, kx]
        table = (offsets[:, None] * 4 + np.array(shifts, np.int64)).reshape(-1)
        arranged = matrix.reshape(len(blocks), LANES, len(shifts), count * LANES).transpose(0, 2, 1, 3)
        spans.append((first, count, tap_at, table.size, weight_at))
        taps.append(table)
        packed.append(arranged.reshape(-1))
        tap_at += table.size
        weight_at += arranged.size
    return np.concatenate(taps), np.array(spans, np.int64), np.concatenate(packed)
