"""Twins of `kernels.half`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from kernels.constants import LANES, STORE, TEST_BITS
from kernels.half import NEAR_PX, STRETCHES
from kernels.layout import Map, Test
from kernels.reference.common import lanes_of, positions

LARGEST = 65504.0


def rounded(values: np.ndarray) -> np.ndarray:
    """float16 nearest to float32 values, the largest one for what lies beyond."""
    found: np.ndarray = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
    return found


def unpack_half(
    store: np.ndarray, channels: np.ndarray, row: int, pixel: int, first: int, end: int, out: np.ndarray
) -> None:
    """NumPy's float16."""
    ys, xs = np.mgrid[first:end, : out.shape[2]]
    out[:, first:end] = store[channels[:, None, None] + ys * row + xs * pixel].view(np.float16)


def _expand(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, row: int, left: int, right: int
) -> None:
    count = -(-(right - left + 1) * staged.pixel // LANES) * LANES
    for b in range(blocks):
        to = staged.origin + b * staged.plane + row * staged.row + left * staged.pixel
        source = stored.origin + b * stored.plane + row * stored.row + left * stored.pixel
        arena[to : to + count] = store[source : source + count].view(np.float16)


def _runs(
    listed: np.ndarray, block: int, col_low: np.ndarray, col_high: np.ndarray
) -> Iterator[tuple[int, int, int, int]]:
    """First and last row of each run of blocks side by side, and first and last column that it reads."""
    runs: list[list[np.ndarray]] = []
    for members in listed.reshape(-1, block * block, 2):
        if runs and (runs[-1][-1][0] + (0, block) == members[0]).all():
            runs[-1].append(members)
        else:
            runs.append([members])
    for run in runs:
        (top, first), (bottom, last) = run[0][0], run[-1][-1]
        columns = [x for x in range(first, last + 1) if col_low[x] <= col_high[x]]
        if columns:
            yield top, bottom, int(col_low[columns].min()), int(col_high[columns].max())


def expand_runs(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, row_low: np.ndarray,
    row_high: np.ndarray, col_low: np.ndarray, col_high: np.ndarray, listed: np.ndarray, block: int,
) -> None:  # fmt: skip
    """Run by run, every row that it reads."""
    for top, bottom, left, right in _runs(listed, block, col_low, col_high):
        for y in range(top, bottom + 1):
            for row in range(row_low[y], row_high[y] + 1):
                _expand(store, stored, blocks, arena, staged, row, left, right)


def expand_windows(
    store: np.ndarray, stored: Map, blocks: int, arena: np.ndarray, staged: Map, row_low: np.ndarray,
    row_high: np.ndarray, row_step: int, col_low: np.ndarray, col_high: np.ndarray, listed: np.ndarray, block: int,
    known: np.ndarray,
) -> None:  # fmt: skip
    """Run by run of blocks side by side, row by row, what no known stretch holds."""

    expand = partial(_expand, store, stored, blocks, arena, staged)
    for top, bottom, left, right in _runs(listed, block, col_low, col_high):
        for y in range(top, bottom + 1):
            for row in range(row_low[y], row_high[y] + 1, row_step):
                stretches = known[row, 1:].reshape(-1, 2)[: known[row, 0]]
                gaps = [max(left - b - 1, a - right - 1, 0) for a, b in stretches]
                if len(gaps) < STRETCHES and min(gaps, default=NEAR_PX + 1) > NEAR_PX:
                    known[row, 0] += 1
                    known[row, 1:].reshape(-1, 2)[len(gaps)] = left, right
                    expand(row, left, right)
                    continue
                nearest = stretches[int(np.argmin(gaps))]
                before, after = int(nearest[0]), int(nearest[1])
                if left < before:
                    expand(row, left, before - 1)
                if right > after:
                    expand(row, after + 1, right)
                nearest[:] = min(left, before), max(right, after)


def commit_half(
    arena: np.ndarray, staged: Map, blocks: int, store: np.ndarray, stored: Map, listed: np.ndarray, rule: Test,
    refresh: bool, written: np.ndarray,
) -> int:  # fmt: skip
    """Group by group of a block's pixels."""
    ys, xs = listed[:, 0], listed[:, 1]
    numbers = np.arange(blocks)
    where = positions(stored, ys, xs)[:, None] + lanes_of(numbers * stored.plane)
    values = positions(staged, ys, xs)[:, None] + lanes_of(numbers * staged.plane)
    new = rounded(arena[values])
    old = store[where].view(np.float16)
    if rule.mode == TEST_BITS:
        differs = np.any(new.view(np.uint16) != old.view(np.uint16), axis=1)
    else:
        squares = np.square(new.astype(np.float32) - old.astype(np.float32))
        differs = ~(squares.sum(axis=1) <= np.float32(rule.limit))
    if rule.mode == STORE:
        differs[:] = True
    group, before = rule.block * rule.block, np.count_nonzero(written)
    for first in range(0, len(listed), group):
        members = slice(first, first + group)
        if np.any(differs[members]):
            store[where[members]] = new[members].view(np.uint16)
            if refresh:
                arena[values[members]] = new[members]
            written[ys[members], xs[members]] = 1
    return int(np.count_nonzero(written) - before)
