"""3x3 convolutions of stride 1 by Winograd's method: when it is taken, and its arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, block_offsets
from cache.graph import Node
from cache.packing import pack_weights
from cache.steps import GUESSED_CALL_NS, Cost, Floats, Method, guessed_pixel_ns, method
from cache.values import Blocks, Value
from kernels.emit_winograd import PATCH, TILE
from kernels.layout import Act, Map, Test
from kernels.record import (
    STATE_WORDS,
    act_at,
    arena_of,
    entry,
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
from kernels.winograd import POINTS, TILES, convolve_winograd, work_elements

Ints = npt.NDArray[np.int64]

GUESSED_GAIN, GUESSED_TILES = 2.2, 0.086
"""How much faster a long list is than by the direct method; tiles, for each pair of blocks of input and output
channels, in a
list that takes as long either way (four times the weights are read). Measured; `cache.tuning` measures anew."""
PART_TILES = 8
"""Tiles below which a list is not cut for several threads."""
NARROWEST = 32
"""Input channels below which transforms cost what products save."""

_POINTS = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
     [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
)  # fmt: skip


@entry
def winograd_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, planes, taps, spans, weights, bias, slope, target map, activation, target."""
    r, s = words_at(record, 27), words_at(state, STATE_WORDS)
    return convolve_winograd(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_at(r, 6), ints_2d_at(r, 8), floats_at(r, 11), floats_at(r, 13),
        floats_at(r, 15), map_at(r, 17), pixels_at(pixels, count), act_at(r, 21), Test(mode, limit, block),
        scratch_of(s, worker), work_of(s, worker), mask_of(s, r[26]),
    )  # fmt: skip


def winograd_method(
    maps: Maps, blocks: Blocks, weight: Floats, pads: tuple[int, int], bias: Floats, slope: Floats, place: Map, act:
    Act, target: int,
) -> Method:  # fmt: skip
    """The convolution of a view's blocks into the map `target`, laid out as `place`."""
    source, planes, taps, spans, packed = arguments(maps, blocks, weight, pads)
    made = method(winograd_convolution, source, planes, taps, spans, packed, bias, slope, place, act, target)
    outputs = bias.size // LANES
    direct_ns = guessed_pixel_ns(9 * weight.shape[1] * weight.shape[0], weight.shape[0])
    saved_ns = direct_ns * (1 - 1 / GUESSED_GAIN)
    return replace(
        made, grain=TILE, unit=PART_TILES * TILE * TILE, work_elements=work_elements(planes.size, outputs),
        cost=Cost(GUESSED_CALL_NS + GUESSED_TILES * planes.size * outputs * TILE * TILE * saved_ns, direct_ns -
        saved_ns),
    )  # fmt: skip


def suits(builder: Builder, node: Node, weight: Floats) -> bool:
    """Whether Winograd's method can compute the convolution, and pays."""
    attrs = node.attrs
    plain = attrs["strides"] == (1, 1) and attrs["dilations"] == (1, 1) and attrs["groups"] == 1
    wide = weight.shape[1] >= NARROWEST and weight.shape[2:] == (3, 3)
    return not builder.strict and plain and wide


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
    points: npt.NDArray[np.float64] = _POINTS @ weight.astype(np.float64) @ _POINTS.T
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
    taps, spans, packed = pack_weights(window, 1, blocks, place, PATCH * LANES, (step, step), halves=False)
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
