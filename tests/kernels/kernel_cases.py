"""Drawn arguments for every kernel: maps anywhere in an arena, lists of any shape, small integers as values.

Sums of small integers are exact in float32, so that a kernel and its twin must agree bit for bit, decisions
included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kernels import constants as codes
from kernels.constants import HALF, LANES, VECTOR_BYTES
from kernels.layout import Act, Map, Test, Window, scratch_elements
from kernels.reference.masks import bits_of
from kernels.separable import work_elements as separable_work
from kernels.target import HALF_PIXELS, MAX_VECTORS
from kernels.winograd import TILES, work_elements

Array = np.ndarray
Case = dict[str, Any]
ALWAYS_ROUNDED = {"softmax"}
"""Kernels that round whatever the activation."""
BLOCKS = (1, 2, 4, 8, 16, 32, 64, 128)
FEWEST_VECTORS = 0 if HALF_PIXELS else 1
CASES: dict[str, st.SearchStrategy[Case]] = {}

EXACT = tuple(Act(kind, -1.0, 3.0) for kind in (codes.IDENTITY, codes.RELU, codes.CLIP, codes.PRELU))
ROUNDED = (
    Act(codes.SILU, 0.0, 0.0), Act(codes.SIGMOID, 0.0, 0.0), Act(codes.HARD_SWISH, 1 / 6, 0.5),
    Act(codes.HARD_SIGMOID, 0.2, 0.5),
)  # fmt: skip


def is_rounded(found: Case) -> bool:
    """Whether a case's activation is one that kernel and twin may round differently."""
    return "act" in found and found["act"]._replace(before=0, after=0) in ROUNDED


def case(function: Callable[..., Case]) -> Callable[..., Case]:
    """Register a composite strategy under the kernel's name, which is the function's."""
    CASES[function.__name__] = st.composite(function)()
    return function


@dataclass
class Memory:
    """An arena under construction, and the random numbers that fill it."""

    draw: Any
    rng: np.random.Generator
    size: int = 0
    parts: list[int] = field(default_factory=list)

    def place(self, blocks: int, height: int, width: int, lanes: int = LANES) -> tuple[Map, Array]:
        """A map with slack around it and its planes in any order: (map, element offset of each block)."""
        pixel = lanes if lanes != 1 else int(self.rng.choice([1, LANES]))
        row = (width + self.some(0, 2)) * pixel
        plane = (height + self.some(0, 2)) * row + self.some(0, 3) * LANES
        origin = self.size + self.some(0, 40)
        self.size = origin + blocks * plane + (height + 1) * row + LANES
        return Map(origin, plane, row, pixel), self.rng.permutation(blocks).astype(np.int64) * plane

    def like(self, target: Map, blocks: int, height: int) -> int:
        """Room for another map of the same strides; returns how many bytes further than the first it lies."""
        origin = self.size + self.some(0, 40)
        self.size = origin + blocks * target.plane + (height + 1) * target.row + LANES
        return (origin - target.origin) * 4

    def some(self, low: int, high: int) -> int:
        """An integer from low to high."""
        return int(self.rng.integers(low, high + 1))

    def integers(self, *shape: int, high: int = 2) -> Array:
        """Small integers as float32."""
        return self.rng.integers(-high, high + 1, shape).astype(np.float32)

    def arena(self) -> Array:
        """The arena, full of small integers, border and slack included."""
        return self.integers(self.size)


def memory(draw: Any) -> Memory:
    """Fresh memory for one case."""
    return Memory(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


def pixel_list(
    draw: Any, rng: np.random.Generator, height: int, width: int, sizes: tuple[int, ...] = (1, 1, 2, 4)
) -> tuple[Array, int]:
    """Dense lists, blocks clamped at the edges or single pixels, in any order: (int32[n, 2], block of these sizes)."""
    block = draw(st.sampled_from(sizes))
    tops, lefts = np.arange(0, height, block), np.arange(0, width, block)
    corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2)
    if draw(st.booleans()):
        corners = rng.permutation(corners)[: draw(st.integers(1, len(corners)))]
    inner = np.stack(np.mgrid[:block, :block], -1).reshape(1, -1, 2)
    pixels = (corners[:, None] + inner).reshape(-1, 2)
    return np.minimum(pixels, [height - 1, width - 1]).astype(np.int32), block


def finishing(m: Memory, blocks: int, height: int, width: int, *, listed: bool = True, act: bool = True) -> Case:
    """The arguments that most kernels end with: target, pixels, activation, test, scratch, written."""
    pixels, block = pixel_list(m.draw, m.rng, height, width) if listed else (None, 1)
    mode = m.draw(st.sampled_from([codes.STORE, codes.TEST_RMS, codes.TEST_BITS]))
    limits = [0.0, codes.UNMARKED] if mode == codes.STORE else [0.0, 1.5, 6.5]
    arguments: Case = {
        "target": m.place(blocks, height, width)[0],
        "test": Test(mode, float(m.draw(st.sampled_from(limits))), block),
        "scratch": np.empty(scratch_elements(blocks), np.float32),
        "written": (m.rng.random((height, width)) < 0.1).astype(np.uint8),
    }
    arguments |= {"pixels": pixels} if listed else {}
    if act:
        arguments["slope"] = m.integers(blocks * LANES)
        arguments["act"] = m.draw(st.sampled_from(EXACT + ROUNDED if mode == codes.STORE else EXACT))
        distance = m.draw(st.sampled_from([0, 0, 1])) * m.like(arguments["target"], blocks, height)
        when = m.draw(st.sampled_from(["before", "after"]))
        arguments["act"] = arguments["act"]._replace(**{when: distance})
    return arguments


def output_size(draw: Any) -> tuple[int, int]:
    """Height and width of a small map."""
    return draw(st.integers(1, 11)), draw(st.integers(1, 13))


@case
def convolve(draw: Any) -> Case:
    """Groups of output blocks that see different input blocks, any geometry, any padding."""
    m = memory(draw)
    (height, width), lanes = output_size(draw), draw(st.sampled_from([16, 16, HALF, HALF, 3, 1]))
    pixel = LANES if lanes == HALF else lanes
    ky, kx, sy, sx, dy, dx = (draw(st.integers(1, n)) for n in (5, 5, 3, 3, 2, 2))
    vectors = draw(st.lists(st.integers(FEWEST_VECTORS, MAX_VECTORS), min_size=1, max_size=3))
    in_blocks = draw(st.integers(1, 3))
    source, planes = m.place(in_blocks, (height - 1) * sy + ky * dy, (width - 1) * sx + kx * dx, pixel)
    window = np.add.outer(np.arange(ky) * dy * source.row, np.arange(kx) * dx * source.pixel).reshape(-1)
    taps, spans, weight, first = [], [], 0, 0
    for count in vectors:
        seen = m.rng.permutation(planes)[: m.some(1, in_blocks)]
        group = (np.add.outer(seen, window).reshape(-1) * 4).astype(np.int64)
        group += m.rng.integers(0, pixel // HALF, group.size) * HALF * 4 if lanes == HALF else 0
        spans.append([first, count, sum(map(len, taps)), group.size, weight])
        taps.append(group)
        weight += group.size * lanes * (count * LANES or HALF)
        first += max(count, 1)
    return finishing(m, first, height, width) | {
        "arena": m.arena(), "source": source, "taps": np.concatenate(taps), "spans": np.array(spans,
        np.int64), "lanes": lanes, "weights": m.integers(weight), "bias": m.integers(first * LANES),
        "stride_y": sy, "stride_x": sx,
    }  # fmt: skip


@case
def convolve_winograd(draw: Any) -> Case:
    """Blocks of four on the grid, clamped at the edges; groups of output blocks that see different input blocks."""
    m = memory(draw)
    height, width = output_size(draw)
    inputs, vectors = draw(st.integers(1, 3)), draw(st.lists(st.integers(1, MAX_VECTORS), min_size=1, max_size=2))
    source, planes = m.place(inputs, height + 6, width + 6)
    taps, spans, weight, first = [], [], 0, 0
    for count in vectors:
        seen = m.rng.permutation(inputs)[: m.some(1, inputs)]
        spans.append([first, count, sum(map(len, taps)), seen.size, weight])
        taps.append(seen * TILES * VECTOR_BYTES)
        weight += seen.size * LANES * count * LANES
        first += count
    every = np.concatenate(taps).astype(np.int64) + np.arange(36)[:, None] * inputs * TILES * VECTOR_BYTES
    corners = np.stack(np.mgrid[:height:4, :width:4], -1).reshape(-1, 1, 2)
    corners = m.rng.permutation(corners)[: draw(st.integers(1, len(corners)))]
    pixels = (corners + np.stack(np.mgrid[:4, :4], -1).reshape(1, 16, 2)).reshape(-1, 2)
    ending = finishing(m, first, height, width)
    return ending | {
        "arena": m.arena(), "source": source, "planes": planes, "taps": every.reshape(-1), "spans": np.array(spans,
        np.int64), "weights": m.integers(36 * weight, high=1), "bias": m.integers(first * LANES),
        "pixels": np.minimum(pixels, [height - 1, width - 1]).astype(np.int32), "test":
        ending["test"]._replace(block=4), "work": np.zeros(work_elements(inputs, first), np.float32),
    }  # fmt: skip


@case
def convolve_depthwise(draw: Any) -> Case:
    """One tap table for every block; blocks in any order."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 4))
    ky, kx, sy, sx, dy, dx = (draw(st.integers(1, n)) for n in (5, 5, 3, 3, 2, 2))
    source, planes = m.place(blocks, (height - 1) * sy + ky * dy, (width - 1) * sx + kx * dx)
    taps = np.add.outer(np.arange(ky) * dy * source.row, np.arange(kx) * dx * LANES).reshape(-1) * 4
    return finishing(m, blocks, height, width) | {
        "arena": m.arena(), "source": source, "planes": planes, "taps": taps.astype(np.int64),
        "weights": m.integers(blocks, taps.size, LANES), "bias": m.integers(blocks * LANES), "stride_y": sy,
        "stride_x": sx,
    }  # fmt: skip


@case
def convolve_separable(draw: Any) -> Case:
    """A depthwise convolution, then groups of output blocks that see different blocks of it."""
    m, first = memory(draw), draw(CASES["convolve_depthwise"])
    (height, width), inputs = first["written"].shape, first["planes"].size
    taps, spans, weight, block, lanes = [], [], 0, 0, draw(st.sampled_from([LANES, HALF]))
    for count in draw(st.lists(st.integers(FEWEST_VECTORS, MAX_VECTORS), min_size=1, max_size=2)):
        seen = m.rng.permutation(inputs)[: m.some(1, inputs)]
        spans.append([block, count, sum(map(len, taps)), seen.size, weight])
        taps.append(seen * VECTOR_BYTES + (m.rng.integers(0, 2, seen.size) * HALF * 4 if lanes == HALF else 0))
        weight += seen.size * lanes * (count * LANES or HALF)
        block += max(count, 1)
    m.size = first["arena"].size
    ending = finishing(m, block, height, width)
    arena = np.concatenate([first["arena"], m.integers(m.size - first["arena"].size)])
    kept = ("source", "planes", "stride_y", "stride_x")
    return ending | {name: first[name] for name in kept} | {
        "arena": arena, "window": first["taps"], "kernels": first["weights"], "first_bias": first["bias"],
        "first_slope": m.integers(inputs * LANES), "first_act": draw(st.sampled_from(EXACT)),
        "taps": np.concatenate(taps).astype(np.int64), "spans": np.array(spans, np.int64), "lanes": lanes,
        "weights": m.integers(weight), "bias": m.integers(block * LANES), "work": np.zeros(separable_work(inputs),
        np.float32),
    }  # fmt: skip


def _pool(draw: Any) -> Case:
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 5)) for _ in range(2)]
    strides, dilations = ([draw(st.integers(1, n)) for _ in range(2)] for n in (3, 2))
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    in_height, in_width = (
        max(1, (n - 1) * strides[i] + kernel[i] - pads[i] - draw(st.integers(0, 2)))
        for i, n in enumerate((height, width))
    )
    source, planes = m.place(blocks, in_height, in_width)
    return finishing(m, blocks, height, width) | {
        "arena": m.arena(), "source": source, "planes": planes, "height": in_height, "width": in_width,
        "window": Window(*kernel, *strides, *dilations, *pads),
    }  # fmt: skip


@case
def pool_max(draw: Any) -> Case:
    """Windows that reach past every edge; those wholly outside give a value too large for SiLU."""
    return _pool(draw) | {"act": draw(st.sampled_from(EXACT))}


@case
def pool_average(draw: Any) -> Case:
    """The same, with both divisors."""
    return _pool(draw) | {"include_pad": draw(st.booleans())}


@case
def combine(draw: Any) -> Case:
    """Two maps, the second possibly one pixel for all."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 4))
    first, first_planes = m.place(blocks, height, width)
    second, second_planes = m.place(blocks, height, width)
    if draw(st.booleans()):
        second = second._replace(row=0, pixel=0)
    return finishing(m, blocks, height, width) | {
        "op": draw(st.sampled_from([codes.ADD, codes.SUB, codes.MUL, codes.MAX, codes.MIN])),
        "arena": m.arena(), "first": first,
        "first_planes": first_planes, "second": second, "second_planes": second_planes,
    }  # fmt: skip


@case
def affine(draw: Any) -> Case:
    """Integer scales and shifts."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 4))
    source, planes = m.place(blocks, height, width)
    return finishing(m, blocks, height, width) | {
        "arena": m.arena(), "source": source, "planes": planes, "scale": m.integers(blocks * LANES),
        "shift": m.integers(blocks * LANES),
    }  # fmt: skip


@case
def softmax(draw: Any) -> Case:
    """Blocks of which some lanes hold no channel, but at least one does; always stored, as its results are rounded."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 4))
    source, planes = m.place(blocks, height, width)
    live = m.rng.random(blocks * LANES) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    live[m.rng.integers(live.size)] = True
    ending = finishing(m, blocks, height, width, act=False)
    return ending | {
        "arena": m.arena(), "source": source, "planes": planes, "live": live.astype(np.float32),
        "test": ending["test"]._replace(mode=codes.STORE),
    }  # fmt: skip


@case
def resize(draw: Any) -> Case:
    """Any pair of rows and columns; weights in quarters, for exact sums."""
    m = memory(draw)
    (height, width), (in_height, in_width) = output_size(draw), output_size(draw)
    blocks = draw(st.integers(1, 3))
    source, planes = m.place(blocks, in_height, in_width)
    nearest = draw(st.booleans())
    unit = np.float32(0 if nearest else 0.25)
    weights = [m.rng.integers(0, 4, n).astype(np.float32) * unit for n in (height, width)]
    return finishing(m, blocks, height, width) | {
        "arena": m.arena(), "source": source, "planes": planes, "row_weights": weights[0],
        "column_weights": weights[1], "rows": m.rng.integers(0, in_height, (height, 2)).astype(np.int32),
        "columns": m.rng.integers(0, in_width, (width, 2)).astype(np.int32),
    }  # fmt: skip


@case
def copy_pixels(draw: Any) -> Case:
    """Rows and columns in any order, some of them zeros."""
    m = memory(draw)
    (height, width), (in_height, in_width) = output_size(draw), output_size(draw)
    blocks = draw(st.integers(1, 3))
    source, planes = m.place(blocks, in_height, in_width)
    return finishing(m, blocks, height, width, act=False) | {
        "arena": m.arena(), "source": source, "planes": planes,
        "rows": m.rng.integers(-1, in_height, height).astype(np.int32),
        "columns": m.rng.integers(-1, in_width, width).astype(np.int32),
    }  # fmt: skip


@case
def pack_channels(draw: Any) -> Case:
    """Channels of any lane of any block, some of them zeros."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 3))
    source, planes = m.place(draw(st.integers(1, 3)), height, width)
    lanes = np.append(np.add.outer(planes, np.arange(LANES)).reshape(-1), -1)
    channels = m.rng.choice(lanes, blocks * LANES)
    if draw(st.booleans()):  # two halves in turn, as a shuffle leaves them
        halves = lanes[: lanes.size // 2 * 2].reshape(2, -1).T.reshape(-1)
        channels = np.resize(halves, blocks * LANES)
    return finishing(m, blocks, height, width, act=False) | {
        "arena": m.arena(), "source": source, "channels": channels,
    }  # fmt: skip


def _global(draw: Any) -> Case:
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 3))
    source, planes = m.place(blocks, height, width)
    return finishing(m, blocks, 1, 1, listed=False) | {
        "arena": m.arena(), "source": source, "planes": planes, "width": width,
        "rows_stale": m.rng.integers(0, 2, height).astype(np.uint8), "partials": m.integers(height, blocks *
        LANES),
    }  # fmt: skip


@case
def global_average(draw: Any) -> Case:
    """Some rows stale, the others from the caller's partial sums."""
    return _global(draw)


@case
def global_max(draw: Any) -> Case:
    """The same for the maximum."""
    return _global(draw)


def _frames(draw: Any) -> tuple[Memory, Array, Array]:
    """A frame and a reference that differ in places, of any size and 1 to 4 channels."""
    m = memory(draw)
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 70)), draw(st.integers(1, 4)))
    frame = m.rng.integers(0, 256, shape).astype(np.uint8)
    noise = m.rng.integers(-3, 4, shape) * (m.rng.random(shape) < draw(st.sampled_from([0.01, 0.2, 1.0])))
    return m, frame, np.clip(frame + noise, 0, 255).astype(np.uint8)


def _tiles(frame: Array, tile: int) -> tuple[int, int]:
    return -(-frame.shape[0] // tile), -(-frame.shape[1] // tile)


@case
def changed_tiles(draw: Any) -> Case:
    """Partial tiles at the edges, limits that some tiles meet exactly, one for all and one for each."""
    m, frame, reference = _frames(draw)
    tile = draw(st.sampled_from([4, 8, 16]))
    shape = _tiles(frame, tile)
    limit = draw(st.sampled_from([0, 1, tile * tile // 4, tile * tile]))
    limits = np.full(shape, limit, np.int32) + m.rng.integers(0, draw(st.sampled_from([1, 9])), shape, np.int32)
    return {
        "frame": frame, "reference": reference, "tile": tile, "limits": limits, "sums": np.zeros(shape, np.int32),
        "tiles": m.rng.integers(0, 2, shape).astype(np.uint8),
    }  # fmt: skip


@case
def changed_tiles_within(draw: Any) -> Case:
    """No tile, one, several in a row with gaps, all."""
    given = changed_tiles(draw)
    m, shape = memory(draw), given["tiles"].shape
    within = m.rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    del given["sums"]
    return {**given, "within": within.astype(np.uint8)}


@case
def count_differences(draw: Any) -> Case:
    """Differences below and above what is told apart, every shade, any stretch of tiles, flat or not."""
    m, _, reference = _frames(draw)
    reference[:, : reference.shape[1] // 2] = m.rng.integers(0, 256) + m.rng.integers(
        0, draw(st.sampled_from([1, 12, 24])), reference[:, : reference.shape[1] // 2].shape
    )
    tile = draw(st.sampled_from([4, 8, 16]))
    shape = _tiles(reference, tile)
    most = draw(st.sampled_from([1, 4, 40])) * tile * tile * reference.shape[2]
    first = draw(st.integers(0, shape[0] * shape[1]))
    return {
        "reference": reference, "tile": tile, "sums": m.rng.integers(0, most, shape, np.int32), "first": first,
        "end": draw(st.integers(first, shape[0] * shape[1])), "counts": m.rng.integers(0, 9, (16, 64), np.int32),
    }  # fmt: skip


@case
def limit_tiles(draw: Any) -> Case:
    """Whole and broken levels, tiles that are cut off."""
    m, _, reference = _frames(draw)
    tile = draw(st.sampled_from([4, 8, 16]))
    by_shade = m.rng.integers(0, 33, 16) / draw(st.sampled_from([1.0, 4.0, 7.0]))
    limits = np.zeros(_tiles(reference, tile), np.int32)
    return {"reference": reference, "tile": tile, "by_shade": by_shade, "limits": limits}


@case
def apply_levels(draw: Any) -> Case:
    """Lines that leave the range of a byte on both sides, one to four channels."""
    m, frame, _ = _frames(draw)
    channels = frame.shape[2]
    slope, shift = m.rng.integers(1000, 16000, channels), m.rng.integers(-200, 200, channels) * 4096 + 2048
    return {
        "frame": frame, "slope": np.resize(slope, 48).astype(np.int32), "shift": np.resize(shift, 48).astype(np.int32),
        "out": np.zeros_like(frame),
    }  # fmt: skip


@case
def differing_tiles(draw: Any) -> Case:
    """One bit here and there, tiles cut off at the edges, any stretch of them."""
    m = memory(draw)
    tile, channels = draw(st.sampled_from([4, 8, 16])), draw(st.integers(1, 4))
    frame = m.rng.integers(0, 256, (draw(st.integers(1, 40)), draw(st.integers(1, 60)), channels), dtype=np.uint8)
    reference = frame ^ (m.rng.random(frame.shape) < 0.005).astype(np.uint8)
    rows, columns = _tiles(frame, tile)
    first = draw(st.integers(0, rows * columns))
    return {
        "frame": frame, "reference": reference, "tile": tile, "first": first, "end":
        draw(st.integers(first, rows * columns)), "tiles": m.rng.integers(0, 2, (rows, columns)).astype(np.uint8),
    }  # fmt: skip


@case
def show_tiles(draw: Any) -> Case:
    """Interleaved and blocked maps; tables that are lines and tables that are not."""
    m, frame, _ = _frames(draw)
    tile, channels = draw(st.sampled_from([4, 8, 16])), frame.shape[2]
    lanes = draw(st.sampled_from([channels, LANES]))
    target, _ = m.place(1, *frame.shape[:2], lanes)
    slope = m.integers(48 // channels * channels).reshape(-1, channels)[:1]
    shift, table = m.integers(1, channels), m.rng.random((256, channels), np.float32)
    pattern = [np.zeros(0, np.float32)] * 2
    if draw(st.booleans()):
        table = (np.arange(256)[:, None] * slope + shift).astype(np.float32)
        pattern = [np.tile(part.reshape(-1), 48 // channels) for part in (slope, shift)]
    return {
        "frame": frame, "table": table, "slope": pattern[0], "shift": pattern[1], "tile": tile, "target": target,
        "tiles": m.rng.integers(0, 2, _tiles(frame, tile)).astype(np.uint8), "arena": m.arena(), "lanes": lanes,
    }  # fmt: skip


@case
def take_tiles(draw: Any) -> Case:
    """A frame and a reference frame that differ everywhere."""
    m, frame, _ = _frames(draw)
    tile = draw(st.sampled_from([4, 8, 16]))
    tiles = m.rng.integers(0, 2, _tiles(frame, tile)).astype(np.uint8)
    written = np.zeros(frame.shape[:2], np.uint8)
    return {"frame": frame, "tiles": tiles, "tile": tile, "reference": 255 - frame, "written": written}


@case
def grow_tiles(draw: Any) -> Case:
    """Few tiles and many, as far as across the frame."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 30))
    tiles = (rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))).astype(np.uint8)
    return {"tiles": tiles, "reach": draw(st.integers(0, 31)), "grown": np.ones(shape, np.uint8)}


@case
def ingest_tensor(draw: Any) -> Case:
    """More channels than a block holds, interleaved or blocked; few values, so that some are equal."""
    m = memory(draw)
    (height, width), channels = output_size(draw), draw(st.integers(1, 20))
    lanes = draw(st.sampled_from([channels, LANES]))
    target, _ = m.place(-(-channels // lanes), height, width, lanes)
    written = m.rng.integers(0, 2, (height, width)).astype(np.uint8)
    x = m.integers(channels, height, width, high=1)
    return {"x": x, "arena": m.integers(m.size, high=1), "target": target, "lanes": lanes, "written": written}


def _unpack(draw: Any) -> Case:
    """Channels of a blocked map: any of them, or runs of neighbours."""
    m = memory(draw)
    (height, width), channels = output_size(draw), draw(st.integers(1, 40))
    source, planes = m.place(3, height, width)
    every = source.origin + np.add.outer(planes, np.arange(LANES)).reshape(-1)
    offsets = every[draw(st.integers(0, 8)) :][:channels] if draw(st.booleans()) else m.rng.choice(every, channels)
    out = np.zeros((offsets.size, height, width), np.float32)
    return {"arena": m.arena(), "channels": offsets, "row": source.row, "pixel": source.pixel, "out": out}


def some_rows(draw: Any, height: int) -> tuple[int, int]:
    """First and end of all rows of a map, of some, or of none."""
    if draw(st.booleans()):
        return 0, height
    first = draw(st.integers(0, height))
    return first, draw(st.integers(first, height))


@case
def unpack_rows(draw: Any) -> Case:
    """A whole map, some of its rows, or none."""
    drawn = _unpack(draw)
    first, end = some_rows(draw, drawn["out"].shape[1])
    return drawn | {"first": first, "end": end}


def ranges(draw: Any, rng: np.random.Generator, inputs: int) -> tuple[Array, Array, int, int, int, int]:
    """Ranges of a clipped convolution, of an upsampling, or arbitrary: (low, high, step, stride, taps, offset)."""
    step = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["window", "window", "repeat", "any"]))
    if kind == "repeat":
        low = np.arange(2 * inputs) // 2
        return low.astype(np.int32), low.astype(np.int32), 1, 0, 0, 0
    if kind == "any":
        low = rng.integers(0, inputs, draw(st.integers(1, 80)))
        return low.astype(np.int32), rng.integers(-1, inputs, low.size).astype(np.int32), step, 0, 0, 0
    taps, stride, pad = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 4, 8])), draw(st.integers(0, 3))
    count = max(1, (inputs + 2 * pad - (taps - 1) * step - 1) // stride + 1)
    reads = (np.arange(count) * stride - pad)[:, None] + np.arange(taps) * step
    inside = (reads >= 0) & (reads < inputs)
    low, high = np.where(inside, reads, inputs).min(axis=1), np.where(inside, reads, -1).max(axis=1)
    return low.astype(np.int32), high.astype(np.int32), step, stride, taps, -pad


def _mask(draw: Any, rng: np.random.Generator) -> Array:
    """Marks here and there, in half of the cases in rows that repeat."""
    shape = draw(st.integers(1, 14)), draw(st.integers(1, 210))
    mask = (rng.random(shape) < draw(st.sampled_from([0.0, 0.005, 0.1, 1.0]))).astype(np.uint8)
    return np.ascontiguousarray(mask[np.arange(shape[0]) // draw(st.sampled_from([1, 1, 2, 4]))])


@case
def marked_rows(draw: Any) -> Case:
    """Masks without a mark, with one, with many."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = _mask(draw, rng)
    if draw(st.booleans()):
        mask[:] = 0
        mask[rng.integers(mask.shape[0]), rng.integers(mask.shape[1])] = 1
    return {"mask": mask}


@case
def pack_mask(draw: Any) -> Case:
    """Rows shorter and longer than a word."""
    mask = _mask(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    return {"mask": mask, "packed": np.ones((mask.shape[0], -(-mask.shape[1] // 64)), np.uint64)}


@case
def project_packed(draw: Any) -> Case:
    """Windows, repeated pixels, and ranges that only the tables know."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = _mask(draw, rng)
    rows, columns = (ranges(draw, rng, n) for n in mask.shape)
    stale = (rng.random((rows[0].size, columns[0].size)) < 0.01).astype(np.uint8)
    return {
        "packed": bits_of(mask), "row_low": rows[0], "row_high": rows[1], "row_step": rows[2], "col_low": columns[0],
        "col_high": columns[1], "col_step": columns[2], "stride": columns[3], "taps": columns[4], "offset": columns[5],
        "stale": bits_of(stale),
    }  # fmt: skip


@case
def list_packed(draw: Any) -> Case:
    """Maps that are and are not whole blocks, in bits."""
    drawn = draw(CASES["list_pixels"])
    height, width = drawn["stale"].shape
    return drawn | {"stale": bits_of(drawn["stale"]), "height": height, "width": width}


@case
def list_part(draw: Any) -> Case:
    """Nothing, some and all of the blocks."""
    height, width, block = draw(st.integers(1, 30)), draw(st.integers(1, 70)), draw(st.sampled_from(BLOCKS))
    blocks = -(-height // block) * -(-width // block)
    first = draw(st.integers(0, blocks))
    return {
        "height": height, "width": width, "block": block, "first": first, "end": draw(st.integers(first, blocks)),
        "pixels": np.zeros((blocks * block * block, 2), np.int32),
    }  # fmt: skip


@case
def list_pixels(draw: Any) -> Case:
    """Maps that are and are not whole blocks."""
    stale = _mask(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    block = draw(st.sampled_from(BLOCKS))
    capacity = -(-stale.shape[0] // block) * -(-stale.shape[1] // block) * block * block
    return {"stale": stale, "block": block, "pixels": np.zeros((capacity, 2), np.int32)}


@case
def spread(draw: Any) -> Case:
    """Maps around the size from which fewer pixels are read; some lanes of some blocks."""
    m = memory(draw)
    height, width, blocks = draw(st.integers(1, 80)), draw(st.integers(1, 80)), draw(st.integers(1, 3))
    source, _ = m.place(blocks, height, width)
    lanes = np.flatnonzero(m.rng.random(blocks * LANES) < draw(st.sampled_from([0.0, 0.2, 1.0])))
    return {"arena": m.arena(), "source": source, "height": height, "width": width, "lanes": lanes}
