"""3x3 convolutions of stride 1 by Winograd's method: when it is taken, and its arguments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, block_offsets
from cache.graph import Node
from cache.packing import pack_weights
from cache.steps import Floats, Pixels, State, Step
from cache.values import Blocks, Value
from kernels.emit_winograd import PATCH, TILE
from kernels.layout import Act, Map, Test
from kernels.winograd import POINTS, TILES, convolve_winograd, work_elements

Ints = npt.NDArray[np.int64]

COARSEST_STRIDE = 8
"""Beyond it decisions are finer than a tile: on frames that changed in part whole tiles cost more than they save."""
NARROWEST = 32
"""Input channels below which transforms cost what products save."""

_POINTS = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
     [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class WinogradStep(Step):
    """Arguments of `kernels.winograd.convolve_winograd`, decided."""

    source: Map
    destination: Map
    planes: Ints
    taps: Ints
    spans: Ints
    weights: Floats
    bias: Floats
    slope: Floats
    act: Act

    @property
    def grain(self) -> int:
        """Whole tiles."""
        return TILE

    @property
    def work_elements(self) -> int:
        """Transformed inputs and products of the tiles under way."""
        return work_elements(self.planes.size, self.bias.size // LANES)

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            convolve_winograd(
                state.arena, self.source, self.planes, self.taps, self.spans, self.weights, self.bias, self.slope,
                self.destination, pixels, self.act, test, state.scratch, state.work, state.written[self.target],
            )
        )  # fmt: skip


def suits(builder: Builder, node: Node, weight: Floats, target: int) -> bool:
    """Whether Winograd's method can compute the convolution, and pays."""
    attrs = node.attrs
    plain = attrs["strides"] == (1, 1) and attrs["dilations"] == (1, 1) and attrs["groups"] == 1
    wide = weight.shape[1] >= NARROWEST and weight.shape[2:] == (3, 3)
    return not builder.strict and plain and wide and builder.arena.maps[target].stride <= COARSEST_STRIDE


def tile_border(builder: Builder, node: Node, value: Value) -> None:
    """Ask for a border that holds every tile's patch, also of tiles that reach past the map's end."""
    _, height, width = builder.shape(node.output)
    top, left = node.attrs["pads"][:2]
    below, after = (
        max(0, -(-out // TILE) * TILE + 2 - pad - size)
        for out, pad, size in ((height, top, value.height), (width, left, value.width))
    )
    builder.border(value, (top, left, below, after))


def transformed(weight: Floats) -> npt.NDArray[np.float64]:
    """float64[out, in, 6, 6], the weights at each point; computed in double precision, to be rounded once."""
    points: npt.NDArray[np.float64] = np.einsum("ai,ocij,bj->ocab", _POINTS, weight.astype(np.float64), _POINTS)
    return points


def arguments(
    maps: Maps, blocks: Blocks, weight: Floats, pads: tuple[int, int]
) -> tuple[Map, Ints, Ints, Ints, Floats]:
    """source, planes, taps, spans and weights of the kernel.

    Packed as a 6x6 window over the transformed inputs, [36][inputs][tiles][16], then parted by point.
    """
    info, planes = block_offsets(maps, blocks)
    place = np.arange(planes.size, dtype=np.int64) * TILES * LANES
    step = planes.size * TILES  # pixels from a point's inputs to the next's
    window = transformed(weight).astype(np.float32)
    taps, spans, packed = pack_weights(window, 1, blocks, place, PATCH * LANES, (step, step))
    ends = [*spans[1:, 4], packed.size]
    tables = [taps[at : at + count].reshape(-1, POINTS).T for _, _, at, count, _ in spans]
    parts = [
        packed[at:end].reshape(-1, POINTS, LANES * vectors * LANES).transpose(1, 0, 2).reshape(POINTS, -1)
        for (_, vectors, _, _, at), end in zip(spans, ends, strict=True)
    ]
    return (
        info.corner(*pads), planes, np.concatenate(tables, axis=1).reshape(-1), spans // (1, 1, POINTS, POINTS, POINTS),
        aligned_copy(np.concatenate(parts, axis=1).reshape(-1)),
    )  # fmt: skip
