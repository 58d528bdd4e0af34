"""Orders in which the steps of a whole frame can be computed: map by map, or in bands of rows down the chain of steps.

The bits are the same: a step's rows are computed once, when all rows that they read are there.
"""

from __future__ import annotations

import numpy as np

from cache.plan import Plan, PlannedStep
from cache.steps import Method, Pixels

Calls = list[tuple[Method, Pixels]]
LARGEST_STRIDE = 8
"""Px of the image per px of a map, up to which steps go in bands: maps of larger strides stay in a cache anyway."""


def map_by_map(plan: Plan) -> Calls:
    """Every step whole, one after the other, as the engine does it."""
    return [(planned.step.method, planned.everything) for planned in plan.steps]


def in_bands(plan: Plan, count: int) -> Calls:
    """So many bands of rows, each of them down all steps of small strides; then the other steps map by map."""
    order = _Order(plan)
    small = [i for i, s in enumerate(plan.steps) if plan.maps[s.step.target].stride <= LARGEST_STRIDE]
    read = {r.map for i in small for r in plan.steps[i].step.reads}
    ends = [i for i in small if plan.steps[i].step.target not in read]
    for band in range(1, count + 1):
        for index in ends:
            order.want(index, -(-plan.maps[plan.steps[index].step.target].height * band // count))
    for index in range(len(plan.steps)):
        order.want(index, plan.maps[plan.steps[index].step.target].height)
    return order.calls


class _Order:
    """Calls so far, and how many rows of each step they make."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._makers = {planned.step.target: index for index, planned in enumerate(plan.steps)}
        self._done = [0] * len(plan.steps)
        self.calls: Calls = []

    def want(self, index: int, rows: int) -> None:
        """Have the first rows of a step's map made, and what they read before them."""
        planned, begin = self._plan.steps[index], self._done[index]
        height, grain = self._plan.maps[planned.step.target].height, planned.step.method.grain
        end = min(-(-rows // grain) * grain, height)
        if end <= begin:
            return
        for read in planned.step.reads:
            if read.map in self._makers:
                last = int(read.rows.high[begin:end].max())
                if grain > 1:  # a tile's patch reaches as far below as above
                    last = min(last + grain, self._plan.maps[read.map].height - 1)
                self.want(self._makers[read.map], last + 1)
        self._done[index] = end
        self.calls.append((planned.step.method, rows_of(planned, begin, end)))


def rows_of(planned: PlannedStep, begin: int, end: int) -> Pixels:
    """Of every pixel of a step, those of some rows."""
    y = planned.everything[:, 0]
    return np.ascontiguousarray(planned.everything[(y >= begin) & (y < end)])
