"""Weights and tap tables of a convolution in the order in which its kernels read them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cache.arena import LANES
from cache.steps import Floats
from cache.values import Blocks, Value
from kernels.constants import HALF
from kernels.target import HALF_PIXELS, HOST, MAX_VECTORS

Ints = npt.NDArray[np.int64]
WIDE = any(HOST.wide)
"""Whether there are larger calls, which read whole blocks."""


def window_taps(kernel: tuple[int, int], row: int, pixel: int, dilations: tuple[int, int]) -> Ints:
    """int64[kh, kw]: byte offset of each tap from the window's first pixel."""
    ky = np.arange(kernel[0], dtype=np.int64)[:, None] * dilations[0] * row
    kx = np.arange(kernel[1], dtype=np.int64)[None, :] * dilations[1] * pixel
    return (ky + kx) * 4


def block_groups(blocks: int) -> list[tuple[int, int]]:
    """Split output blocks into (first, count) groups of at most `MAX_VECTORS`, none alone where it can be helped."""
    groups, at = [], 0
    while at < blocks:
        left = blocks - at
        count = min(left, MAX_VECTORS)
        if left == count + 1 and count > 2:
            count -= 1
        groups.append((at, count))
        at += count
    return groups


def _lanes_read(blocks: Blocks) -> dict[int, float]:
    """What reading a view takes, in lanes, by lanes per tap. A tap of one takes a ninth more than its share of 16."""
    used = np.unique(blocks.position)
    return {LANES: LANES * len(blocks), HALF: HALF * np.unique(used // HALF).size, 1: used.size * 9 / 8}


def lanes_per_tap(blocks: Blocks) -> int:
    """16, 8 or 1: how a view is read with the least work."""
    cost = _lanes_read(blocks)
    if WIDE and cost[LANES] < cost[1]:
        return LANES
    return min(cost, key=lambda lanes: cost[lanes])


def lanes_of_blocks(blocks: Blocks) -> int:
    """The same where no view is read lane by lane: 16 or 8."""
    cost = _lanes_read(blocks)
    return HALF if not WIDE and cost[HALF] < cost[LANES] else LANES


def vectors_of(blocks: int, live: int, *, halves: bool = True) -> int:
    """How a span tells its blocks of `live` outputs: their number, or 0 for half a block where that is faster."""
    return 0 if halves and HALF_PIXELS and live <= HALF and blocks == 1 else blocks


def _of_one_group(low: int, high: int, share: int) -> list[tuple[int, int]]:
    """Outputs `low` to `high` - 1 as stretches of one convolution group each, of `share` outputs."""
    return list(pairwise([low, *range((low // share + 1) * share, high, share), high]))


def pack_weights(
    weight: Floats, groups: int, blocks: Blocks, offsets: Ints, row: int, dilations: tuple[int, int],
    lanes: int = LANES, *, halves: bool = True,
) -> tuple[Ints, Ints, Floats]:  # fmt: skip
    """Tap table, spans and weights of `kernels.conv.convolve` for a view of blocked maps.

    offsets : int64[blocks], element offset of each touched block from the source's origin. A group of output blocks
    lists only the input blocks that its convolution groups see. lanes : per tap, 16; or 8 or 1, which list only the
    halves or lanes that hold a channel, in the same order. halves : of output blocks are computed by themselves where
    that is faster. Returns int64[taps], int64[groups, 5], float32[:].
    """
    outputs, per_group, kh, kw = weight.shape
    share, parts = outputs // groups, LANES // lanes
    window_offsets = window_taps((kh, kw), row, LANES, dilations)
    taps, spans, packed, tap_at, weight_at = [], [], [], 0, 0
    for first, count in block_groups(-(-outputs // LANES)):
        low, high = first * LANES, min((first + count) * LANES, outputs)
        inputs = np.arange(low // share * per_group, ((high - 1) // share + 1) * per_group)
        seen = np.unique(blocks.position[inputs] // LANES)
        slot = np.full(len(blocks), -1, np.int64)
        slot[seen] = np.arange(seen.size)
        matrix = np.zeros((seen.size * LANES, kh, kw, count * LANES), np.float32)
        for begin, end in _of_one_group(low, high, share):
            source = np.arange(begin // share * per_group, (begin // share + 1) * per_group)
            where = blocks.position[source]
            rows, several = slot[where // LANES] * LANES + where % LANES, weight[begin:end].transpose(1, 2, 3, 0)
            if np.unique(rows).size == rows.size:
                matrix[rows, ..., begin - low : end - low] = several
            else:
                np.add.at(matrix[..., begin - low : end - low], rows, several)
        group = matrix.reshape(seen.size, parts, lanes, kh, kw, count * LANES).transpose(0, 3, 4, 1, 2, 5)
        table = offsets[seen, None, None, None] * 4 + window_offsets[..., None] + np.arange(parts) * lanes * 4
        if parts > 1:
            used = np.zeros((seen.size, 1, 1, parts), np.bool_)
            where = blocks.position[inputs]
            used.reshape(-1)[slot[where // LANES] * parts + where % LANES // lanes] = True
            used = np.broadcast_to(used, table.shape)
            group, table = group[used], table[used]
        vectors = vectors_of(count, high - low, halves=halves)
        group = group[..., : vectors * LANES or HALF]
        spans.append((first, vectors, tap_at, table.size, weight_at))
        taps.append(table.reshape(-1))
        packed.append(group.reshape(-1))
        tap_at += table.size
        weight_at += group.size
    return np.concatenate(taps), np.array(spans, np.int64), np.concatenate(packed)


def pack_interleaved(
    weight: Floats, row: int, pixel: int, dilations: tuple[int, int], value: Value
) -> tuple[Ints, Ints, Floats, int]:
    """The same for an interleaved map: three lanes per tap when it has three channels, else one; and that number."""
    outputs, _, kh, kw = weight.shape
    mixed = np.zeros((outputs, pixel, kh, kw), np.float32)
    np.add.at(mixed.transpose(1, 0, 2, 3), value.channels, weight.transpose(1, 0, 2, 3))
    width = 3 if pixel == 3 else 1
    table = window_taps((kh, kw), row, pixel, dilations)[:, :, None] + np.arange(0, pixel, width) * 4
    spans, packed, weight_at = [], [], 0
    for first, count in block_groups(-(-outputs // LANES)):
        part = np.zeros((count * LANES, pixel, kh, kw), np.float32)
        chosen = mixed[first * LANES : (first + count) * LANES]
        part[: len(chosen)] = chosen
        vectors = vectors_of(count, len(chosen))
        group = part.transpose(2, 3, 1, 0)[..., : vectors * LANES or HALF]  # kh, kw, channel, output
        spans.append((first, vectors, 0, table.size, weight_at))
        packed.append(group.reshape(-1))
        weight_at += group.size
    return table.reshape(-1).astype(np.int64), np.array(spans, np.int64), np.concatenate(packed), width
