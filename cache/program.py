"""A plan's steps as the tables that `kernels.program` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arena import MapInfo
from cache.graph import QUANTISED_OPS
from cache.half import HalfLayout, half_method
from cache.steps import Method, Read, Words
from kernels.program import BITS, MAP_WORDS, METHOD, READ_WORDS, STEP_WORDS

IMAGE_SHARE = 0.1
"""Of a turn in which everything is looked at again: what the image takes."""


@dataclass(frozen=True, eq=False)
class Program:
    """steps : int64[n, 19], reads : int64[m, 10], maps : int64[k, 8], columns as in `kernels.program`.

    costs : float64[n, 4]. epsilons : float64[n]. turn : float64[n + 1]. kept : arrays behind the addresses.
    """

    steps: Words
    reads: Words
    maps: Words
    costs: npt.NDArray[np.float64]
    epsilons: npt.NDArray[np.float64]
    turn: npt.NDArray[np.float64]
    kept: tuple[Any, ...]


def assemble(steps: Sequence[Any], maps: Sequence[MapInfo], half: HalfLayout | None = None) -> Program:
    """Tables of planned steps (`cache.plan.PlannedStep`), compiling their entries where that is still to be done.

    half : where maps kept as float16 lie.
    """
    rows = np.zeros((len(steps), STEP_WORDS), np.int64)
    reads: list[list[int]] = []
    kept: list[Any] = []
    for row, planned in zip(rows, steps, strict=True):
        step, lanes = planned.step, np.unique(planned.lanes)
        kept += [planned, lanes]
        ways = [step.method, step.few]
        if half is not None:
            ways = [None if way is None else half_method(half, step, way) for way in ways]
            kept += ways
        first, few = (
            [0, 0, 0, 0] if way is None else method_words(way, block)
            for way, block in zip(ways, (planned.block, planned.few_block), strict=True)
        )
        row[:] = [
            step.target, len(reads), len(step.reads), *first,
            planned.everything.ctypes.data, len(planned.everything), *few, lanes.ctypes.data, lanes.size, step.channels,
            int(planned.epsilon == 0), int(step.op in QUANTISED_OPS), step.method.grain,
        ]  # fmt: skip
        reads += [read_words(read) for read in step.reads]
    assert METHOD + 4 < BITS
    places, at = [], 0
    for m in maps:
        places.append([m.height, m.width, m.origin, m.plane, m.row, m.pixel, m.blocks, at])
        at += packed_words(m.height, m.width)
    return Program(
        rows, np.array(reads, np.int64).reshape(-1, READ_WORDS), np.array(places, np.int64).reshape(-1, MAP_WORDS),
        np.array([[*s.step.method.cost, *(s.step.few or s.step.method).cost] for s in steps], np.float64).reshape(-1,
        4), np.array([planned.epsilon for planned in steps], np.float64), turn_of(steps), tuple(kept),
    )  # fmt: skip


def turn_of(steps: Sequence[Any]) -> npt.NDArray[np.float64]:
    """float64[steps + 1], where in a turn from 0 to 1 each step begins and the last one ends, by what they may cost.

    The image comes before them.
    """
    sizes = [len(s.everything) * s.step.channels for s in steps]
    costs = np.array([s.step.macs / 50 + size / 4 for s, size in zip(steps, sizes, strict=True)], np.float64)
    total = costs.sum() / (1 - IMAGE_SHARE) if costs.sum() > 0 else 1.0
    ends: npt.NDArray[np.float64] = np.concatenate([[IMAGE_SHARE], IMAGE_SHARE + np.cumsum(costs) / total])
    if len(steps):
        ends[-1] = 1.0
    return ends


def packed_words(height: int, width: int) -> int:
    """uint64 words of a packed mask."""
    return height * -(-width // 64)


def method_words(method: Method, block: int) -> list[int]:
    """Entry, record, block and unit of a method."""
    return [method.entry.address, method.words.ctypes.data, block, method.unit]


def read_words(read: Read) -> list[int]:
    """A read as `kernels.program` takes it."""
    rows, columns = read.rows, read.columns
    return [
        read.map, rows.low.ctypes.data, rows.high.ctypes.data, rows.step, columns.low.ctypes.data,
        columns.high.ctypes.data, columns.step, columns.stride, columns.taps, columns.offset,
    ]  # fmt: skip
