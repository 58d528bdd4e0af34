"""Drawn arguments for the kernels of float16 maps: small integers and their halves, exact in both types."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_cases import Case, case, finishing, memory, output_size, pixel_list, ranges, some_rows

from kernels.constants import LANES
from kernels.half import STRETCH_WORDS
from kernels.layout import Map


def stored_map(blocks: int, height: int, width: int, pixel: int, slack: int) -> tuple[Map, int]:
    """A stored map behind some elements, and the elements of its store."""
    row = width * pixel if pixel == LANES else -(-width * pixel // LANES) * LANES + LANES
    plane = height * row + slack * LANES
    return Map(slack * LANES, plane, row, pixel), slack * LANES + blocks * plane + 2 * LANES


def halves(rng: np.random.Generator, size: int) -> np.ndarray:
    """uint16[size], float16 integers and halves."""
    return (rng.integers(-8, 9, size) / 2).astype(np.float16).view(np.uint16)


@case
def unpack_half(draw: Any) -> Case:
    """Any channels of a stored map, or runs of neighbours; all of its rows, some, or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    (height, width), count = output_size(draw), draw(st.integers(1, 20))
    stored, size = stored_map(3, height, 2 * width, LANES, 1)
    lanes = stored.origin + np.add.outer(np.arange(3) * stored.plane, np.arange(LANES)).reshape(-1)
    channels = lanes[draw(st.integers(0, 8)) :][:count] if draw(st.booleans()) else rng.choice(lanes, count)
    first, end = some_rows(draw, height)
    return {
        "store": halves(rng, size), "channels": channels, "row": stored.row, "pixel": LANES, "first": first, "end": end,
        "out": np.zeros((count, height, 2 * width), np.float32),
    }  # fmt: skip


@case
def expand_runs(draw: Any) -> Case:
    """As `expand_windows` has them; rows that are read have no gaps."""
    given = expand_windows(draw)
    return {name: value for name, value in given.items() if name not in ("row_step", "known")}


@case
def expand_windows(draw: Any) -> Case:
    """Blocked and interleaved maps, any windows, some of it staged already; staged rows have room for whole vectors."""
    m = memory(draw)
    in_height, in_width = draw(st.integers(1, 9)), draw(st.integers(1, 60))
    pixel = draw(st.sampled_from([LANES, LANES, 3]))
    blocks = draw(st.integers(1, 3)) if pixel == LANES else 1
    stored, size = stored_map(blocks, in_height, in_width, pixel, m.some(0, 3))
    row = (in_width + m.some(0, 2)) * pixel + LANES
    staged = Map(m.some(0, 40), in_height * row + m.some(0, 3) * LANES, row, pixel)
    rows, columns = (ranges(draw, m.rng, n) for n in (in_height, in_width))
    listed, block = pixel_list(draw, m.rng, rows[0].size, columns[0].size)
    known = np.zeros((in_height, STRETCH_WORDS), np.int32)
    if draw(st.booleans()):
        known[:, 0], known[:, 2] = 1, in_width // 3
    return {
        "store": halves(m.rng, size), "stored": stored, "blocks": blocks, "staged": staged, "row_low": rows[0],
        "row_high": rows[1], "row_step": rows[2], "col_low": columns[0], "col_high": columns[1], "listed": listed,
        "block": block, "known": known, "arena": m.integers(staged.origin + blocks * staged.plane + 4 * LANES),
    }  # fmt: skip


@case
def commit_half(draw: Any) -> Case:
    """Stored values that differ in places, limits that some groups meet exactly, values too large to store."""
    m = memory(draw)
    (height, width), blocks = output_size(draw), draw(st.integers(1, 4))
    if draw(st.booleans()):
        width *= 13  # past what is tested in one go
    ending = finishing(m, blocks, height, width, act=False)
    listed, block = pixel_list(draw, m.rng, height, width, (1, 2, 3, 4, 8, 64, 70))
    stored, size = stored_map(blocks, height, width, LANES, m.some(0, 3))
    arena, store = m.arena(), np.zeros(size, np.uint16)
    arena[m.rng.random(arena.size) < 0.01] *= 65536
    staged = ending["target"]
    ys, xs, lanes = np.mgrid[:height, :width, :LANES].reshape(3, -1)
    for b in range(blocks):
        values = arena[staged.origin + b * staged.plane + ys * staged.row + xs * staged.pixel + lanes]
        values = np.clip(values + (m.rng.random(values.size) < 0.01), -65504, 65504)
        store[stored.origin + b * stored.plane + ys * stored.row + xs * LANES + lanes] = values.astype(np.float16).view(
            np.uint16
        )
    return {
        "arena": arena, "staged": staged, "blocks": blocks, "store": store, "stored": stored,
        "listed": listed, "rule": ending["test"]._replace(block=block), "refresh": draw(st.booleans()),
        "written": ending["written"],
    }  # fmt: skip
