"""Transposed convolution: one direct convolution per output phase, each on its own lattice of output pixels.

Three ways, chosen when the plan is made. Where the map is whole cells of stride x stride pixels, lists come in whole
cells, and every phase takes the same list of cells. Where all phases besides see the input through the same taps, and
have so few channels that those of a whole cell fill no more than one lane vector, that vector is computed at once. All
else is sorted by phase. Decisions are taken pixel by pixel, whatever block the policy names.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, MapInfo, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.geometry import phase_taps, transposed_window
from cache.graph import Node, macs
from cache.ops.conv import bias_of, supports
from cache.packing import block_groups, lanes_of_blocks, vectors_of
from cache.steps import (
    GUESSED_CALL_NS,
    Cost,
    Floats,
    Method,
    Pixels,
    Read,
    Step,
    Words,
    guessed_pixel_ns,
    method,
)
from cache.values import Blocks
from kernels.cells import convolve_cells, list_cells, sort_by_phase
from kernels.constants import HALF
from kernels.conv import convolve
from kernels.jit import jit
from kernels.layout import LONG_CHUNK, Map, Test
from kernels.record import (
    STATE_WORDS,
    act_at,
    arena_of,
    encode,
    entry,
    floats_at,
    index_at,
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
Phase = tuple[int, int, list[tuple[int, int]], list[tuple[int, int]]]
"""Row and column in a cell, and the taps (kernel index, input offset) of rows and columns."""

WHOLE_CELLS = (2, 4)
"""Strides whose cells may be the blocks of a list."""


@jit
def convolve_phase(r: Words, s: Words, phase: Words, cells: Pixels, mode: int, limit: float, worker: int) -> int:
    """Compute one phase of some cells; returns the pixels written. r, s, phase : record, state and row of `phases`."""
    marks = mask_of(s, r[22])[phase[0] :: r[15], phase[1] :: r[16]]
    written: int = convolve(
        arena_of(s), map_at(r, 0), ints_at(phase, 6), ints_2d_at(phase, 8), r[23], floats_at(phase, 11),
        floats_at(r, 7), floats_at(r, 9), map_at(phase, 2), cells, 1, 1, act_at(r, 17), Test(mode, limit, 1),
        scratch_of(s, worker), marks,
    )  # fmt: skip
    return written


@entry
def transposed_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, phases int64[n, 13], bias, slope, cells of rows and of columns, strides, activation, target, lanes.

    A phase: its row and column, then target map, taps, spans and weights of one `convolve` over cells.
    """
    r, s = words_at(record, 24), words_at(state, STATE_WORDS)
    phases = ints_2d_at(r, 4)
    ends, cells, first, total = np.empty(phases.shape[0], np.int64), np.empty((count, 2), np.int32), 0, 0
    sort_by_phase(pixels_at(pixels, count), index_at(r, 11), index_at(r, 13), r[15], r[16], ends, cells)
    for p in range(phases.shape[0]):
        if ends[p] > first:
            total += convolve_phase(r, s, phases[p], cells[first : ends[p]], mode, limit, worker)
        first = ends[p]
    return total


@entry
def transposed_cells(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """The same, of a list of whole cells; a stretch of them at a time, so that its input stays in the cache."""
    r, s = words_at(record, 24), words_at(state, STATE_WORDS)
    phases, stride, mask, total = ints_2d_at(r, 4), r[15], mask_of(s, r[22]), 0
    cells = np.empty((count // (stride * stride), 2), np.int32)
    height, width = mask.shape[0] // stride, mask.shape[1] // stride
    listed = list_cells(pixels_at(pixels, count), block, stride, height, width, cells)
    for start in range(0, listed, LONG_CHUNK):
        part = cells[start : min(start + LONG_CHUNK, listed)]
        for p in range(phases.shape[0]):
            total += convolve_phase(r, s, phases[p], part, mode, limit, worker)
    return total


@entry
def transposed_lanes(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, taps, lanes, vectors, weights, bias, slope, target map, stride, channels, activation, target; a list of
    whole cells."""
    r, s = words_at(record, 26), words_at(state, STATE_WORDS)
    stride, mask = r[18], mask_of(s, r[25])
    cells = np.empty((count // (stride * stride), 2), np.int32)
    height, width = mask.shape[0] // stride, mask.shape[1] // stride
    listed = list_cells(pixels_at(pixels, count), block, stride, height, width, cells)
    return convolve_cells(
        arena_of(s), map_at(r, 0), ints_at(r, 4), r[6], r[7], floats_at(r, 8), floats_at(r, 10), floats_at(r, 12),
        map_at(r, 14), cells[:listed], stride, r[19], act_at(r, 20), Test(mode, limit, 1), scratch_of(s, worker), mask,
    )  # fmt: skip


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
    phases = [(p, q, phase_taps(p, kh, sy, dy, top), phase_taps(q, kw, sx, dx, left))
              for p in range(min(sy, height)) for q in range(min(sx, width))]  # fmt: skip
    ys = [o + (height - 1 - p) // sy * e for p, _, ty, _ in phases for _, o in ty for e in (0, 1)]
    xs = [o + (width - 1 - q) // sx * e for _, q, _, tx in phases for _, o in tx for e in (0, 1)]
    builder.border(
        value,
        (max(0, -min(ys, default=0)), max(0, -min(xs, default=0)),
         max(0, max(ys, default=0) - value.height + 1), max(0, max(xs, default=0) - value.width + 1)),
    )  # fmt: skip
    work = macs(builder.graph, node)
    bias = bias_of(builder.graph, node, channels)
    whole = sy == sx and sy in WHOLE_CELLS and height % sy == 0 and width % sx == 0

    def finish(maps: Maps) -> Step:
        info, offsets = block_offsets(maps, blocks)
        if whole and node.attrs["groups"] == 1 and channels * sy * sx <= LANES and see_the_same(phases):
            made = lanes_method(node, weight, bias, phases, blocks, offsets, info, maps[target])
        else:
            made = phases_method(node, weight, bias, phases, blocks, offsets, info, maps[target], whole)
        cost = Cost(GUESSED_CALL_NS, guessed_pixel_ns(work / (height * width), channels))
        return Step(node.name, node.op, target, reads, work, channels, True, replace(made, cost=cost))

    builder.emit(finish)


def see_the_same(phases: list[Phase]) -> bool:
    """Whether every phase has taps at the same places of the input, and has one."""
    places = {(tuple(o for _, o in taps_y), tuple(o for _, o in taps_x)) for _, _, taps_y, taps_x in phases}
    return len(places) == 1 and all(all(offsets) for offsets in places)


def phases_method(
    node: Node, weight: Floats, bias: Floats, phases: list[Phase], blocks: Blocks, offsets: Ints, info: MapInfo,
    out: MapInfo, whole: bool,
) -> Method:  # fmt: skip
    """One convolution per phase. info, out : first input map, and target. whole : of lists of whole cells."""
    (sy, sx), table, kept, read = node.attrs["strides"], [], [], lanes_of_blocks(blocks)
    for p, q, taps_y, taps_x in phases:
        origin = out.origin + p * out.row + q * out.pixel
        place = Map(origin, out.plane, out.row * sy, out.pixel * sx)
        taps, spans, packed = pack_phase(weight, node.attrs["groups"], blocks, offsets, info.row, taps_y, taps_x, read)
        words, arrays = encode(p, q, place, taps, spans, aligned_copy(packed))
        table.append(words)
        kept.append(arrays)
    each, size = np.arange(bias.size), -(-bias.size // LANES)
    act, slope = activation(node.activation, each, size)
    cells = [(np.arange(n) // s).astype(np.int32) for n, s in ((out.height, sy), (out.width, sx))]
    made = method(
        transposed_cells if whole else transposed_convolution, info.layout, np.stack(table),
        aligned_copy(lanes(each, size, bias)), aligned_copy(slope), *cells, (sy, sx), act, out.index, read,
    )  # fmt: skip
    made = replace(made, kept=(*made.kept, *(a for arrays in kept for a in arrays)))
    return replace(made, grain=sy) if whole else made


def lanes_method(
    node: Node, weight: Floats, bias: Floats, phases: list[Phase], blocks: Blocks, offsets: Ints, info: MapInfo,
    out: MapInfo,
) -> Method:  # fmt: skip
    """All phases in one lane vector: each is a group of channels of a convolution over cells."""
    stride, count = node.attrs["strides"][0], bias.size * len(phases)
    parts = [weight[:, :, [k for k, _ in ty]][:, :, :, [k for k, _ in tx]] for _, _, ty, tx in phases]
    joined = np.stack(parts, axis=1).reshape(len(weight), count, *parts[0].shape[2:])
    rows, columns = ([(k, offset) for k, (_, offset) in enumerate(taps)] for taps in phases[0][2:])
    read = lanes_of_blocks(blocks)
    taps, spans, packed = pack_phase(joined, 1, blocks, offsets, info.row, rows, columns, read)
    act, slope = activation(node.activation, np.arange(bias.size), 1)
    both = [aligned_copy(lanes(np.arange(count), 1, np.tile(v[: bias.size], len(phases)))) for v in (bias, slope)]
    made = method(
        transposed_lanes, info.layout, taps, read, int(spans[0, 1]), aligned_copy(packed), *both, out.layout, stride,
        bias.size, act, out.index,
    )  # fmt: skip
    return replace(made, grain=stride)


def pack_phase(
    weight: Floats, groups: int, blocks: Blocks, offsets: Ints, row: int,
    taps_y: list[tuple[int, int]], taps_x: list[tuple[int, int]], lanes: int,
) -> tuple[Ints, Ints, Floats]:  # fmt: skip
    """Tap table, spans and weights of one phase. weight : float32[Cin, Cout / groups, kh, kw]. lanes : 16 or 8 per tap.

    A phase that no tap reaches reads one pixel with zero weights, so that its outputs are the bias.
    """
    inputs, share = weight.shape[:2]
    outputs, per_group = share * groups, inputs // groups
    pairs = [(ky, oy, kx, ox) for ky, oy in taps_y for kx, ox in taps_x]
    shifts = [(oy * row + ox * LANES) * 4 for _, oy, _, ox in pairs] or [0]
    used = np.unique(blocks.position // lanes)  # parts of blocks that hold a channel
    places = (offsets[:, None] + np.arange(0, LANES, lanes)).reshape(-1)[used] * 4
    taps, spans, packed, tap_at, weight_at = [], [], [], 0, 0
    for first, count in block_groups(-(-outputs // LANES)):
        matrix = np.zeros((len(blocks) * LANES, len(shifts), count * LANES), np.float32)
        for out in range(first * LANES, min((first + count) * LANES, outputs)):
            group, within = divmod(out, share)
            source = np.arange(group * per_group, (group + 1) * per_group)
            for t, (ky, _, kx, _) in enumerate(pairs):
                matrix[blocks.position[source], t, out - first * LANES] = weight[source, within, ky, kx]
        table = (places[:, None] + np.array(shifts, np.int64)).reshape(-1)
        vectors = vectors_of(count, outputs - first * LANES)
        arranged = matrix.reshape(-1, lanes, len(shifts), count * LANES)[used].transpose(0, 2, 1, 3)
        arranged = arranged[..., : vectors * LANES or HALF]
        spans.append((first, vectors, tap_at, table.size, weight_at))
        taps.append(table)
        packed.append(arranged.reshape(-1))
        tap_at += table.size
        weight_at += arranged.size
    return np.concatenate(taps), np.array(spans, np.int64), np.concatenate(packed)
