"""Transposed convolution: one direct convolution per output phase, each on its own lattice of output pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, activation, block_offsets, lanes
from cache.geometry import phase_taps, transposed_window
from cache.graph import Node, macs
from cache.ops.conv import bias_of, supports
from cache.packing import block_groups
from cache.steps import Floats, Pixels, Read, State, Step
from cache.values import Blocks
from kernels.conv import convolve
from kernels.layout import Act, Map, Test

__all__ = ["lower", "supports"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Phase:
    """Outputs at (row, column) modulo the stride: arguments of one `convolve` over cells of stride x stride outputs."""

    row: int
    column: int
    destination: Map
    taps: Ints
    spans: Ints
    weights: Floats


@dataclass(frozen=True, eq=False)
class TransposedStep(Step):
    """The phases of a transposed convolution; bias, slope and activation are common."""

    source: Map
    phases: tuple[Phase, ...]
    bias: Floats
    slope: Floats
    stride: tuple[int, int]
    act: Act

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`. Decisions are taken pixel by pixel, whatever block the policy names."""
        written = state.written[self.target]
        sy, sx = self.stride
        single = Test(test.mode, test.limit, 1)
        total = 0
        for phase in self.phases:
            mine = (pixels[:, 0] % sy == phase.row) & (pixels[:, 1] % sx == phase.column)
            if not mine.any():
                continue
            cells = np.ascontiguousarray(pixels[mine] // np.array([sy, sx], np.int32))
            lattice = written[phase.row :: sy, phase.column :: sx]
            marks = lattice.copy()
            total += int(
                convolve(
                    state.arena, self.source, phase.taps, phase.spans, LANES, phase.weights, self.bias, self.slope,
                    phase.destination, cells, 1, 1, self.act, single, state.scratch, marks,
                )
            )  # fmt: skip
            lattice[...] = marks
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
        phases = []
        for p, q, taps_y, taps_x in lattices:
            origin = out.origin + p * out.row + q * out.pixel
            place = Map(origin, out.plane, out.row * sy, out.pixel * sx)
            packed = pack_phase(weight, node.attrs["groups"], blocks, offsets, info.row, taps_y, taps_x)
            phases.append(Phase(p, q, place, packed[0], packed[1], aligned_copy(packed[2])))
        return TransposedStep(
            node.name, node.op, target, reads, work, channels, True, info.layout, tuple(phases), aligned_copy(bias),
            aligned_copy(slope), (sy, sx), act,
        )  # fmt: skip

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
