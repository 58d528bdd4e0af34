"""What happens to boxes in a day: failures of one and of a rack, repairs, a rolling update. Drawn beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.scale.kinds import DAY_S
from service.capacity.box import Start


@dataclass(frozen=True)
class Trouble:
    """What is assumed of boxes.

    mtbf_s : mean time between failures of one box. rack : boxes that share their power. rack_at_s : when a rack fails,
    None: never. rack_dark_s : for how long. repairs : (chance, seconds until the server is started again, whether its
    kernels are compiled) of one box's failures. detect_s : until the others know that a box is gone. jitter_s : in
    which clients come back, at random. update_at_s : when all boxes are updated, None: never; group : how many at once;
    update_s : that a box is away for it, besides its start; pause_s : before the next group.
    home_every_s : between two streams that a box is given back. retry_s : (least, most) of a client that was refused.
    churn_s : mean time between two connections that a stream loses; churn_away_s : for how long at most.
    """

    mtbf_s: float = 30 * DAY_S
    rack: int = 20
    rack_at_s: float | None = 18 * 3600.0
    rack_dark_s: float = 900.0
    repairs: tuple[tuple[float, float, bool], ...] = ((0.7, 1.0, True), (0.25, 90.0, True), (0.05, 600.0, False))
    detect_s: float = 2.0
    jitter_s: float = 1.0
    update_at_s: float | None = 3 * 3600.0
    group: int = 10
    update_s: float = 10.0
    pause_s: float = 15.0
    home_every_s: float = 0.5
    retry_s: tuple[float, float] = (10.0, 30.0)
    churn_s: float = 12 * 3600.0
    churn_away_s: float = 600.0


@dataclass(frozen=True)
class Incident:
    """Boxes that go together. away_s : from then until they are ready again. told : their streams are told to go before
    (an update), instead of finding out. what : "failure", "rack" or "update"."""

    at_s: float
    what: str
    boxes: tuple[int, ...]
    away_s: float
    told: bool = False


def incidents(trouble: Trouble, boxes: int, start: Start, day_s: float, rng: np.random.Generator) -> list[Incident]:
    """All of a day, by time; a box that fails while it is away fails once."""
    found = []
    for _ in range(rng.poisson(boxes * day_s / trouble.mtbf_s)):
        at_s, box = float(rng.uniform(0, day_s)), int(rng.integers(boxes))
        chances = [chance for chance, _, _ in trouble.repairs]
        _, repair_s, warm = trouble.repairs[int(rng.choice(len(chances), p=chances))]
        found.append(Incident(at_s, "failure", (box,), repair_s + _start_s(start, warm)))
    if trouble.rack_at_s is not None and trouble.rack_at_s < day_s:
        first = int(rng.integers(max(1, boxes // trouble.rack))) * trouble.rack
        rack = tuple(range(first, min(first + trouble.rack, boxes)))
        found.append(Incident(trouble.rack_at_s, "rack", rack, trouble.rack_dark_s + start.warm_s))
    return sorted(found, key=lambda incident: incident.at_s)


def updates(trouble: Trouble, boxes: int, start: Start) -> list[Incident]:
    """The groups of a rolling update, one after the other."""
    if trouble.update_at_s is None:
        return []
    away_s = trouble.update_s + start.warm_s
    each_s = away_s + trouble.pause_s
    groups = [tuple(range(first, min(first + trouble.group, boxes))) for first in range(0, boxes, trouble.group)]
    return [
        Incident(trouble.update_at_s + number * each_s, "update", group, away_s, told=True)
        for number, group in enumerate(groups)
    ]  # fmt: skip


def _start_s(start: Start, warm: bool) -> float:
    if warm:
        return start.warm_s
    return start.warm_s if start.cold_s is None else start.cold_s
