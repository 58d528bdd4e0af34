"""What a Plan is made of and what a Session hands to it: steps, the maps they read, and the state they work on."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.geometry import Span
from kernels.layout import Act, Test

Mask = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass
class State:
    """The memory of one stream: nothing else of it changes from frame to frame.

    arena : float32[:], every stored feature map. written : per map uint8[H, W], 1 where this frame wrote.
    touched : per map, whether anything of it was written this frame. scratch : float32[:], candidates.
    work : float32[:], what Winograd steps need besides; its first 48 stay zero.
    """

    arena: Floats
    written: list[Mask]
    touched: list[bool]
    scratch: Floats
    work: Floats


@dataclass(frozen=True, eq=False)
class Read:
    """A map that a step reads, and the window through which each of its output pixels sees it."""

    map: int
    rows: Span
    columns: Span


@dataclass(frozen=True, eq=False)
class Step(abc.ABC):
    """One node of the plan, ready to run: everything decided, nothing left to look up.

    target : map it writes. reads : what makes its pixels stale. macs : multiply-accumulates of a dense run.
    channels : logical output channels (the mean of the threshold's mean square is over these).
    tested : whether a threshold applies; steps that only move values pass every change on.
    """

    name: str
    op: str
    target: int
    reads: tuple[Read, ...]
    macs: int
    channels: int
    tested: bool

    @property
    def grain(self) -> int:
        """Pixels of the smallest square block that it can compute: 1, or 4 for Winograd tiles."""
        return 1

    @property
    def work_elements(self) -> int:
        """float32 elements of `State.work` that it needs."""
        return 0

    @abc.abstractmethod
    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """Recompute the listed pixels, write and mark those that pass `test`; returns how many were written."""


def act(kind: int, alpha: float = 0.0, beta: float = 0.0) -> Act:
    """An activation tuple with the exact field types that the compiled kernels expect."""
    return Act(int(kind), float(alpha), float(beta))
