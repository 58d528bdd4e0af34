"""Wide 1x1 and strided convolutions in bfloat16: when they are offered, and their arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder
from cache.graph import Node
from cache.steps import Cost, Floats, Method, method
from kernels.bfloat16 import convolve_bfloat16, work_elements
from kernels.emit_bfloat16 import HAS_BFLOAT16
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

Ints = npt.NDArray[np.int64]

NARROWEST = 32
"""Input channels below which rounding the inputs costs what products save."""
GUESSED_GAIN = 1.5
"""How much faster than in float32; `cache.tuning` measures it."""


@entry
def bfloat16_convolution(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """source, taps, spans, weights, bias, slope, target map, strides, activation, target."""
    r, s = words_at(record, 27), words_at(state, STATE_WORDS)
    return convolve_bfloat16(
        arena_of(s), map_at(r, 0), ints_at(r, 4), ints_2d_at(r, 6), floats_at(r, 9), floats_at(r, 11), floats_at(r, 13),
        map_at(r, 15), pixels_at(pixels, count), r[19], r[20], act_at(r, 21), Test(mode, limit, block),
        scratch_of(s, worker), work_of(s, worker), mask_of(s, r[26]),
    )  # fmt: skip


def suits(builder: Builder, node: Node, weight: Floats) -> bool:
    """Whether the plan asks for bfloat16, the machine has it, and the convolution may gain by it."""
    attrs = node.attrs
    wanted = builder.compute_dtype == "bfloat16" and HAS_BFLOAT16
    pointwise, strided = weight.shape[2:] == (1, 1), max(attrs["strides"]) > 1
    return wanted and attrs["groups"] == 1 and weight.shape[1] >= NARROWEST and (pointwise or strided)


def bfloat16_method(
    direct: Method, source: Map, taps: Ints, spans: Ints, packed: Floats, bias: Floats, slope: Floats, place: Map,
    strides: tuple[int, int], act: Act, target: int,
) -> Method:  # fmt: skip
    """The same convolution as `direct`; taps, spans and packed : of 16 lanes, from `cache.packing.pack_weights`."""
    count = int(spans[0, 3])
    groups = [
        pairs(packed[at : at + count * LANES * blocks * LANES], count, blocks) for _, blocks, _, _, at in spans.tolist()
    ]
    places = np.array([[first, blocks, at // 2] for first, blocks, _, _, at in spans.tolist()], np.int64)
    made = method(
        bfloat16_convolution, source, taps[:count].copy(), places, aligned_copy(np.concatenate(groups)), bias, slope,
        place, strides, act, target,
    )  # fmt: skip
    cost = Cost(direct.cost.call_ns, direct.cost.pixel_ns / GUESSED_GAIN)
    return replace(made, work_elements=work_elements(count), cost=cost)


def pairs(weights: Floats, taps: int, blocks: int) -> Floats:
    """[taps][16][blocks][16] as the bits of bfloat16[taps][8][blocks][16][2]; nearest, ties to even."""
    bits = weights.view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    arranged = rounded.reshape(taps, LANES // 2, 2, blocks, LANES).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(arranged).reshape(-1).view(np.float32)
