"""What a Plan is made of: steps, the maps they read, and the ways in which their pixels can be computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cache.geometry import Span
from kernels.layout import CHUNK, Act, Map
from kernels.record import Entry, encode

Pixels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Read:
    """A map that a step reads, and the window through which each of its output pixels sees it."""

    map: int
    rows: Span
    columns: Span


class Cost(NamedTuple):
    """Nanoseconds of a method: per call, and per listed pixel."""

    call_ns: float
    pixel_ns: float

    def of(self, pixels: int) -> float:
        """Nanoseconds for a list."""
        return self.call_ns + self.pixel_ns * pixels


class Effort(NamedTuple):
    """What a method does for a whole map, where that is not what its step's multiply-accumulates say.

    arrays : bytes of those that it writes or reads beside maps, each with how many times.
    """

    macs: float
    arrays: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Method:
    """One way to compute pixels of a step, ready to run: everything decided, nothing left to look up.

    entry : compiled function that unpacks `words` (kernel arguments, see `kernels.record`) and calls the kernel.
    kept : the arrays behind the addresses in `words`. grain : pixels of the smallest square block that it can compute
    (1, 4 for Winograd tiles, up to 128 for Fourier transforms). unit : pixels below which a list is not cut for several
    threads. work_elements : float32 elements of work space that it needs. cost : what it takes on this machine, or may
    take. maps : the maps among its arguments, each with the word where it begins. effort : where the step's
    multiply-accumulates do not say it.
    """

    entry: Entry
    words: Words
    kept: tuple[Any, ...]
    grain: int = 1
    unit: int = CHUNK
    work_elements: int = 0
    cost: Cost = field(default_factory=lambda: Cost(GUESSED_CALL_NS, 0.0))
    maps: tuple[tuple[int, Map], ...] = ()
    effort: Effort | None = None

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights and tables."""
        return sum(a.nbytes for a in self.kept)


def method(entry: Entry, *arguments: Any, macs_px: float = 0.0, channels: int = 16) -> Method:
    """A method that calls `entry` with kernel arguments in the order in which it unpacks them.

    macs_px, channels : multiply-accumulates and channels of a pixel, for a first guess of the cost.
    """
    words, kept = encode(*arguments)
    starts = [0, *accumulate(encode(argument)[0].size for argument in arguments)]
    maps = tuple((at, found) for at, found in zip(starts, arguments, strict=False) if isinstance(found, Map))
    return Method(entry, words, kept, cost=Cost(GUESSED_CALL_NS, guessed_pixel_ns(macs_px, channels)), maps=maps)


GUESSED_CALL_NS = 500.0


def guessed_pixel_ns(macs_px: float, channels: int) -> float:
    """Nanoseconds of a pixel at 50 multiply-accumulates and 4 stored values a nanosecond."""
    return macs_px / 50 + channels / 4


@dataclass(frozen=True, eq=False)
class Step:
    """One node of the plan.

    target : map it writes. reads : what makes its pixels stale. macs : multiply-accumulates of a dense run.
    channels : logical output channels (the mean of the threshold's mean square is over these).
    tested : whether a threshold applies; steps that only move values pass every change on. method : how its pixels are
    computed; few : another way, cheaper for short lists, or None. In exact mode it is always `method`, so that the
    choice never shows in the bits. anywhere : whether what a pixel becomes depends on what its windows hold, and not on
    where it lies.
    """

    name: str
    op: str
    target: int
    reads: tuple[Read, ...]
    macs: int
    channels: int
    tested: bool
    method: Method
    few: Method | None = None
    anywhere: bool = True


def act(kind: int, alpha: float = 0.0, beta: float = 0.0) -> Act:
    """An activation tuple with the exact field types that the compiled kernels expect."""
    return Act(int(kind), float(alpha), float(beta))
