"""A scenario: ten thousand cameras, what the plan says they take, and days of clusters of that size and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.scale.day import Day
from benchmarks.scale.kinds import DAY_S, Cameras, cameras, costs
from benchmarks.scale.places import Places, preferences
from benchmarks.scale.trouble import Trouble, incidents, updates
from service.capacity.box import Box, ModelCost, Start
from service.capacity.plan import Demand, Plan, Terms, plan

HEADROOM = 0.15
START = Start(warm_s=3.0, cold_s=90.0)
"""Where a box file has none."""
_FPS_STEP = 0.01


@dataclass(frozen=True)
class Scenario:
    """The cameras, the box, and what the plan makes of them at their busiest moment."""

    cameras: Cameras
    box: Box
    cost: ModelCost
    found: Plan
    trouble: Trouble
    seed: int

    @classmethod
    def of(
        cls, box: Box, model: str, size: str | None, *, streams: int, boxes: int, spare: int, seed: int = 1,
        trouble: Trouble | None = None,
    ) -> Scenario:  # fmt: skip
        """The scenario in which the plan says: exactly so many boxes, or the most frames a second that they allow."""
        drawn = cameras(streams, np.random.default_rng([seed, 0]))
        activity, peak, _ = drawn.activity_at(drawn.busiest_s())

        def made(fps: float) -> Plan:
            demand = Demand(streams, fps, round(activity, 4), round(peak, 3))
            return plan(box, model, size, demand, Terms(HEADROOM, spare=spare))

        low, high = 1, 24_000
        while high - low > 1:
            middle = (low + high) // 2
            if _fits(made, middle * _FPS_STEP, boxes):
                low = middle
            else:
                high = middle
        found = made(low * _FPS_STEP)
        return cls(drawn, box, found.cost, found, trouble or Trouble(), seed)

    def day(
        self, boxes: int, *, bounded: bool = True, length_s: float = DAY_S, check: bool = False, quiet: bool = False
    ) -> Day:
        """A day of so many boxes, not run yet.

        bounded : no box takes more streams than the plan says; else admission alone decides. quiet : nothing fails.
        """
        start, found = self.box.start or START, self.found
        order = preferences([f"camera-{n}" for n in range(self.cameras.count)], [f"box-{n}" for n in range(boxes)])
        places = Places(
            order, self.box.workers, found.terms.headroom, found.demand.fps, np.zeros(self.cameras.count),
            found.full if bounded else None,
        )  # fmt: skip
        rng = np.random.default_rng([self.seed, 1])
        happenings = [] if quiet else incidents(self.trouble, boxes, start, length_s, rng)
        happenings += updates(self.trouble, boxes, start) if not quiet else []
        spent = costs(self.box, self.cost, found.demand, self.cameras.activity)
        return Day(
            self.cameras, spent, places, self.trouble, happenings, np.random.default_rng([self.seed, 2]),
            length_s, check,
        )  # fmt: skip


def summary(day: Day, boxes: int, title: str) -> dict[str, Any]:
    """What a day came to, in one row."""
    totals, minutes = day.totals, day.minutes
    used = np.array([minutes.used_p50, minutes.used_p99])
    busiest = int(np.argmax(minutes.used_mean))
    return {
        "title": title,
        "boxes": boxes,
        "used_p50": float(used[0, busiest]),
        "used_p99": float(used[1, busiest]),
        "lost": totals.lost / totals.frames,
        "lost_worst_minute": max(minutes.lost),
        "unserved": totals.unserved / totals.frames,
        "refused": totals.refused,
        "passed": totals.passed / max(1, totals.placements),
        "over": totals.seconds_over / totals.box_seconds,
        "most_streams": totals.most_streams,
        "moves": totals.moves_away + totals.moves_home,
        "ideal_moves": totals.ideal_moves,
        "recovery": _recoveries(day),
    }


def _recoveries(day: Day) -> dict[str, dict[str, float | int | None]]:
    """By what happened: how often, streams, and how long it took until all were served at their rate again."""
    found: dict[str, dict[str, float | int | None]] = {}
    for what in dict.fromkeys(each.what for each in day.recoveries):
        rows = [each for each in day.recoveries if each.what == what]
        times: Sequence[float] = [each.recovery_s for each in rows if each.recovery_s is not None]
        found[what] = {
            "count": len(rows), "streams": sum(each.streams for each in rows),
            "median_s": float(np.median(times)) if times else None, "most_s": max(times, default=None),
            "never": len(rows) - len(times),
        }  # fmt: skip
    return found


def _fits(made: Any, fps: float, boxes: int) -> bool:
    try:
        return bool(made(fps).boxes <= boxes)
    except ValueError:  # not even one stream fits a box
        return False
