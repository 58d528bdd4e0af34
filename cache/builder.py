"""Lowers graph nodes to steps: declares maps and borders first, fills in addresses when every map has its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cache.arena import LANES, ArenaBuilder, Border, MapInfo
from cache.geometry import identity
from cache.graph import Activation, Graph
from cache.ops.pack import pack_method
from cache.steps import Read, Step
from cache.values import Blocks, Ints, Value
from kernels.constants import CLIP, HARD_SIGMOID, HARD_SWISH, IDENTITY, PRELU, RELU, SIGMOID, SILU
from kernels.layout import Act, Map

Maps = Sequence[MapInfo]
Finish = Callable[[Maps], Step]

_KINDS = {
    "identity": IDENTITY, "relu": RELU, "clip": CLIP, "leaky_relu": PRELU, "prelu": PRELU, "silu": SILU,
    "sigmoid": SIGMOID, "hard_swish": HARD_SWISH, "hard_sigmoid": HARD_SIGMOID,
}  # fmt: skip


@dataclass
class Builder:
    """The growing plan: values by tensor name, maps, and steps still waiting for addresses.

    strict : every product is computed directly. compute_dtype : of the policy. fft_kept : of the policy; 0 where no
    convolution is computed by Fourier transforms. spectra_bytes : what their filters take so far. live : by map,
    int64[C]: the lanes (block * 16 + lane) that hold a channel of its tensor.
    """

    graph: Graph
    input_height: int
    strict: bool = False
    compute_dtype: str = "float32"
    fft_kept: float = 1.0
    spectra_bytes: int = 0
    arena: ArenaBuilder = field(default_factory=ArenaBuilder)
    values: dict[str, Value] = field(default_factory=dict)
    steps: list[Finish] = field(default_factory=list)
    live: dict[int, Ints] = field(default_factory=dict)

    def shape(self, tensor: str) -> tuple[int, int, int]:
        """Channels, height and width of a tensor of the graph."""
        found = self.graph.type_of(tensor)
        assert found is not None, tensor
        assert len(found.shape) == 4, found
        return found.shape[1], found.shape[2], found.shape[3]

    def new_map(self, name: str, blocks: int, height: int, width: int) -> int:
        """Declare a blocked map; returns its index."""
        return self.arena.declare(name, blocks, height, width, self.input_height / height)

    def new_value(self, tensor: str, channels: int, height: int, width: int) -> tuple[int, Value]:
        """A map of its own for a tensor, channels in order; returns its index and registers the value."""
        index = self.new_map(tensor, -(-channels // LANES), height, width)
        value = Value(height, width, np.full(channels, index, np.int64), np.arange(channels, dtype=np.int64))
        self.values[tensor] = value
        self.live[index] = value.channels
        return index, value

    def mirror(self, tensor: str, source: Blocks, height: int, width: int) -> int:
        """A map with one block for every touched block of a source, lanes kept; returns its index."""
        index = self.new_map(tensor, len(source), height, width)
        maps = np.full(source.position.size, index, np.int64)
        self.values[tensor] = Value(height, width, maps, source.position)
        self.live[index] = source.position
        return index

    def emit(self, finish: Finish) -> None:
        """Add a step; `finish` is called with the placed maps."""
        self.steps.append(finish)

    def border(self, value: Value, border: Border) -> None:
        """Ask for a border of zeros around every map that a value lies in."""
        for index in np.unique(value.maps):
            self.arena.require_border(int(index), border)

    def dense_blocks(self, tensor: str) -> tuple[Value, Blocks]:
        """A value's blocks, packed first if it is scattered or repeats a channel."""
        value = self.values[tensor]
        blocks = value.blocks()
        if blocks.is_injective and not blocks.is_scattered and not self.is_interleaved(value):
            return value, blocks
        order = np.full(-(-len(value) // LANES) * LANES, -1, np.int64)
        order[: len(value)] = np.arange(len(value))
        packed, blocks = self.pack(tensor, value, order)
        self.values[tensor] = packed  # whoever reads the tensor after this reads the copy, and makes no other
        return packed, blocks

    def is_interleaved(self, value: Value) -> bool:
        """Whether a value lies in an interleaved map: the image, where only convolutions of one group read it."""
        return self.arena.maps[int(value.maps[0])].blocks == 0

    def pack(self, tensor: str, value: Value, order: Ints) -> tuple[Value, Blocks]:
        """Copy a value into a map of its own; lane i of the map holds channel `order[i]` (-1: zero)."""
        name = f"{tensor} (packed)"
        index = self.new_map(name, order.size // LANES, value.height, value.width)
        positions = np.empty(len(value), np.int64)
        self.live[index] = live = np.flatnonzero(order >= 0)
        positions[order[live]] = live
        packed = Value(value.height, value.width, np.full(len(value), index, np.int64), positions)
        reads = whole_reads(value)

        def finish(maps: Maps) -> Step:
            first = maps[int(value.maps[0])]
            table = np.full(order.size, -1, np.int64)
            table[live] = element_offsets(maps, value)[order[live]]
            source = Map(0, first.plane, first.row, first.pixel)
            made = pack_method(source, table, maps[index].layout, index)
            return Step(name, "pack", index, reads, 0, len(value), False, made)

        self.emit(finish)
        return packed, packed.blocks()


def whole_reads(value: Value) -> tuple[Read, ...]:
    """Reads of a step whose output pixels see the same pixels of a value."""
    rows, columns = identity(value.height), identity(value.width)
    return tuple(Read(int(m), rows, columns) for m in np.unique(value.maps))


def element_offsets(maps: Maps, value: Value) -> Ints:
    """Arena element of each channel of a value at (0, 0)."""
    offsets = np.empty(len(value), np.int64)
    for c, (m, channel) in enumerate(zip(value.maps.tolist(), value.channels.tolist(), strict=True)):
        info = maps[m]
        within = channel if info.is_interleaved else channel // LANES * info.plane + channel % LANES
        offsets[c] = info.origin + within
    return offsets


def block_offsets(maps: Maps, blocks: Blocks) -> tuple[MapInfo, Ints]:
    """The first touched map, and each touched block's element offset from that map's origin."""
    first = maps[int(blocks.maps[0])]
    offsets = [
        maps[m].origin + number * maps[m].plane - first.origin
        for m, number in zip(blocks.maps.tolist(), blocks.numbers.tolist(), strict=True)
    ]
    return first, np.array(offsets, np.int64)


def lanes(position: Ints, blocks: int, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """float32[blocks * 16] with `values[c]` at `position[c]` and `fill` elsewhere."""
    out = np.full(blocks * LANES, fill, np.float32)
    out[position] = values
    return out


def activation(found: Activation, position: Ints, blocks: int) -> tuple[Act, np.ndarray]:
    """Kernel tuple and per-lane slopes (float32[blocks * 16]) of a graph activation."""
    slope = np.zeros(blocks * LANES, np.float32)
    if found.kind == "leaky_relu":
        slope[:] = found.alpha
    elif found.kind == "prelu":
        assert found.slope is not None
        slope = lanes(position, blocks, np.broadcast_to(found.slope.reshape(-1), position.shape))
    alpha, beta = found.alpha, found.beta
    if found.kind == "hard_swish":
        alpha, beta = 1.0 / 6.0, 0.5
    return Act(_KINDS[found.kind], float(alpha), float(beta)), slope
