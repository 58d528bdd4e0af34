"""Kinds of cameras, and ten thousand of them: when they are on, how busy, and what their frames cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.capacity.box import Box, ModelCost
from service.capacity.plan import Demand, per_stream

DAY_S = 86_400.0
Floats = NDArray[np.float64]
_STREET = (8, 6, 5, 5, 6, 12, 30, 50, 60, 55, 50, 50, 55, 55, 50, 55, 65, 75, 70, 55, 40, 30, 20, 12)
_SHOP = (2, 2, 2, 2, 2, 2, 2, 5, 20, 35, 45, 50, 60, 60, 50, 50, 55, 65, 70, 60, 40, 20, 5, 2)
_CORRIDOR = (2, 2, 2, 2, 2, 2, 10, 30, 50, 35, 25, 30, 45, 40, 30, 30, 35, 50, 35, 20, 10, 5, 3, 2)
_NIGHT = (50, 50, 45, 45, 40, 35, 25, 20, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 20, 30, 40, 45, 50, 50)


@dataclass(frozen=True)
class Kind:
    """share : of all cameras. activity : share of tiles that change while busy. burst_s : how long that lasts, mean.
    busy : of the time, at each full hour, %. opens, closes : hours; None: always on."""

    name: str
    share: float
    activity: float
    burst_s: float
    busy: tuple[int, ...]
    opens: float | None = None
    closes: float | None = None


KINDS = (
    Kind("street", 0.40, 0.22, 30.0, _STREET),
    Kind("shop", 0.25, 0.25, 45.0, _SHOP, 8.0, 21.0),
    Kind("corridor", 0.25, 0.12, 12.0, _CORRIDOR),
    Kind("night", 0.10, 0.15, 20.0, _NIGHT),
)
LEVEL_SPREAD = 0.35
"""Cameras of a kind differ: the time that each is busy is the kind's times a log-normal value of mean 1 and this sigma;
the activity likewise."""
MOST_BUSY, LEAST_BUSY = 0.95, 0.01
MOST_ACTIVITY = 0.9
OPENING_S = 3600.0
"""Shops open and close spread over an hour."""


@dataclass(frozen=True)
class Cameras:
    """count cameras, by number. kind : of each. level : factor on its kind's busy time. activity : while busy.
    opens_s, closes_s : of the day; 0 and a day for those that are always on."""

    kind: NDArray[np.int8]
    level: Floats
    activity: Floats
    opens_s: Floats
    closes_s: Floats

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.kind.size)

    def busy_share(self, at_s: float) -> Floats:
        """Share of the time that each is busy, at a moment of the day."""
        hour = at_s / 3600 % 24
        by_kind = np.array([np.interp(hour, range(25), (*kind.busy, kind.busy[0])) / 100 for kind in KINDS])
        return np.clip(by_kind[self.kind] * self.level, LEAST_BUSY, MOST_BUSY)

    @property
    def burst_s(self) -> Floats:
        """Mean length of a busy time of each."""
        return np.array([kind.burst_s for kind in KINDS])[self.kind]

    def is_on(self, at_s: float) -> NDArray[np.bool_]:
        """Which are connected, or would be, at a moment of the day."""
        return (self.opens_s <= at_s) & (at_s < self.closes_s)

    def activity_at(self, at_s: float) -> tuple[float, float, int]:
        """(mean activity, peak as `Demand` has it, cameras) of those that are on.

        The peak is the mean of squares over the square of the mean: the two states of a plan then have this variance.
        """
        on = self.is_on(at_s)
        share, busy = self.busy_share(at_s)[on], self.activity[on]
        mean = float((share * busy).mean())
        return mean, float((share * busy**2).mean()) / mean**2, int(on.sum())

    def busiest_s(self) -> float:
        """The moment of the day at which all together are busiest."""
        return float(max(np.arange(0, DAY_S, 900.0), key=lambda at: self.activity_at(at)[0] * self.activity_at(at)[2]))


def cameras(count: int, rng: np.random.Generator) -> Cameras:
    """Draw them."""
    kind = rng.choice(len(KINDS), count, p=[each.share for each in KINDS]).astype(np.int8)

    def factors() -> Floats:
        return rng.lognormal(-(LEVEL_SPREAD**2) / 2, LEVEL_SPREAD, count)

    level, activity = factors(), np.array([each.activity for each in KINDS])[kind] * factors()
    spread = rng.random(count) * OPENING_S
    opens = np.array([3600 * (each.opens or 0.0) for each in KINDS])[kind]
    closes = np.array([3600 * (each.closes or 24.0) for each in KINDS])[kind]
    always = np.array([each.opens is None for each in KINDS])[kind]
    return Cameras(
        kind, level, np.minimum(activity, MOST_ACTIVITY), np.where(always, 0.0, opens + spread),
        np.where(always, DAY_S, closes - spread / 2),
    )  # fmt: skip


@dataclass(frozen=True)
class Costs:
    """Seconds of a worker, for a frame: busy by camera, still, whole. Refreshing and cuts are part of the first two."""

    busy_s: Floats
    still_s: float
    whole_s: float


def costs(box: Box, cost: ModelCost, demand: Demand, activity: Floats) -> Costs:
    """Of frames on a box whose workers are all at work, exactly as the plan has them."""

    def stream(share: float) -> tuple[float, float, float]:
        asked = replace(demand, streams=1, activity=share, peak=1.0)
        found = per_stream(box, cost, asked)
        return found.frame_ms, found.still_ms, found.keyframe_ms

    grid = np.linspace(0, 1, 201)
    busy = np.interp(activity, grid, [stream(float(share))[0] for share in grid])
    still, _, whole = stream(0.0)
    return Costs(busy / 1e3, still / 1e3, whole / 1e3)
