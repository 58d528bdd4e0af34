"""Packing: gather channels scattered over maps into blocks of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.steps import Pixels, State, Step
from kernels.copy import pack_channels
from kernels.layout import Map, Test


@dataclass(frozen=True, eq=False)
class PackStep(Step):
    """table : int64[blocks * 16], arena element of each lane's channel; -1 is zero. source : origin 0, strides."""

    source: Map
    destination: Map
    table: npt.NDArray[np.int64]

    def compute(self, state: State, pixels: Pixels, test: Test) -> int:
        """See `Step.compute`."""
        return int(
            pack_channels(
                state.arena, self.source, self.table, self.destination, pixels, test, state.scratch,
                state.written[self.target],
            )
        )  # fmt: skip
