"""The day itself, in steps of two seconds: who is busy, what boxes have time for, who goes where.

A box's time is a fluid. In a step its streams want their frames, and whole frames are owed to those that came; where
that is more than the workers have, everything gets the same share of it (the server's turns are fair), owed whole
frames wait, and frames that there is no time for are lost: newer ones take their place. Streams that fall between two
boxes are events with times of their own. The same seed gives the same day.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.scale.kinds import DAY_S, Cameras, Costs
from benchmarks.scale.places import Places
from benchmarks.scale.trouble import Incident, Trouble

STEP_S = 2.0
MINUTE_S = 60.0
LASTING = 1 / 64
"""Weight of a frame in what a stream costs on average, as in `service.turns`."""
_SERVED = 1 - 1e-9


@dataclass
class Recovery:
    """An incident, and how its streams fared. moves : of its streams to other boxes; ideal : how many it had to be.
    recovery_s : until the last of them was served at its rate again; None: not by the day's end."""

    at_s: float
    what: str
    boxes: int
    streams: int
    moves: int = 0
    recovery_s: float | None = None
    waiting: set[int] = field(default_factory=set, repr=False)


@dataclass
class Minutes:
    """A value for each minute. used_p50, used_p99 : share of the workers' time, over living boxes. lost : share of all
    frames that there was no time for; unserved : share of frames of streams without a box. Others are counts."""

    connected: list[float] = field(default_factory=list)
    alive: list[float] = field(default_factory=list)
    used_p50: list[float] = field(default_factory=list)
    used_p99: list[float] = field(default_factory=list)
    used_mean: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    unserved: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)


@dataclass
class Totals:
    """Frames of the day that were wanted, lost (no time) and unserved (no box); placements, and what became of them."""

    frames: float = 0.0
    lost: float = 0.0
    unserved: float = 0.0
    placements: int = 0
    passed: int = 0
    refused: int = 0
    arrivals: int = 0
    moves_away: int = 0
    moves_home: int = 0
    ideal_moves: int = 0
    most_streams: int = 0
    seconds_over: float = 0.0
    box_seconds: float = 0.0


class Day:
    """One day of one cluster. `run` it once."""

    def __init__(
        self,
        cameras: Cameras,
        costs: Costs,
        places: Places,
        trouble: Trouble,
        happenings: list[Incident],
        rng: np.random.Generator,
        length_s: float = DAY_S,
        check: bool = False,
    ) -> None:
        self.cameras, self.costs, self.places, self.trouble = cameras, costs, places, trouble
        self.minutes, self.totals, self.recoveries = Minutes(), Totals(), list[Recovery]()
        self._rng, self._length_s, self._check = rng, length_s, check
        self._happenings = happenings
        boxes, streams = places.alive.size, cameras.count
        self._owed_s = np.zeros(boxes)  # of whole frames
        self._on = np.zeros(streams, np.bool_)  # wants to be served
        self._busy = np.zeros(streams, np.bool_)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._minute = dict.fromkeys(("lost", "unserved", "frames", "refused", "moves"), 0.0)
        self._used = np.zeros(boxes)
        self._steps = 0

    def run(self) -> Day:
        """All of it; returns itself."""
        self._begin()
        steps = round(self._length_s / STEP_S)
        leave = STEP_S / self.cameras.burst_s
        for step in range(steps):
            now = step * STEP_S
            if not step % round(MINUTE_S / STEP_S):
                share = self.cameras.busy_share(now)
                become = np.minimum(1.0, leave * share / (1 - share))
            self._happen(now)
            self._busy ^= self._rng.random(leave.size) < np.where(self._busy, leave, become)  # two states
            self._serve(now)
            if not (step + 1) % round(MINUTE_S / STEP_S):
                self._tell()
        return self

    def as_dict(self) -> dict[str, Any]:
        """Figures, ready for JSON."""
        rows = [
            {key: value for key, value in vars(each).items() if key != "waiting"} | {"waiting": len(each.waiting)}
            for each in self.recoveries
        ]
        return {"minutes": vars(self.minutes), "totals": vars(self.totals), "incidents": rows}

    def _begin(self) -> None:
        """Place those that are on at midnight, at the costs of that hour, and write down all that is to come."""
        cameras, share = self.cameras, self.cameras.busy_share(0.0)
        self._busy = self._rng.random(cameras.count) < share
        self.places.mean_s[:] = share * self.costs.busy_s + (1 - share) * self.costs.still_s
        for stream in self._rng.permutation(cameras.count):
            if cameras.opens_s[stream] <= 0:
                self._come(int(stream), -STEP_S)
            else:
                self._at(cameras.opens_s[stream], lambda now, s=int(stream): self._come(s, now))
            if cameras.closes_s[stream] < self._length_s:
                self._at(cameras.closes_s[stream], lambda now, s=int(stream): self._go(s))
        self._owed_s[:] = 0  # the day before paid for them
        for incident in self._happenings:
            self._at(incident.at_s, lambda now, i=incident: self._strike(i, now))
        self._churn()

    def _churn(self) -> None:
        """Connections that streams lose by themselves."""
        trouble, count_ = self.trouble, self.cameras.count
        for at_s in self._rng.uniform(0, self._length_s, self._rng.poisson(count_ * self._length_s / trouble.churn_s)):
            stream, away_s = int(self._rng.integers(count_)), float(self._rng.uniform(0, trouble.churn_away_s))
            self._at(float(at_s), lambda now, s=stream, a=away_s: self._blink(s, a, now))

    def _at(self, time_s: float, call: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._numbers), call))

    def _happen(self, now: float) -> None:
        """Everything that is due in this step."""
        while self._events and self._events[0][0] <= now:
            at_s, _, call = heapq.heappop(self._events)
            call(at_s)

    def _come(self, stream: int, now: float) -> None:
        self._on[stream] = True
        self.totals.arrivals += 1
        self._place(stream, now)

    def _go(self, stream: int) -> None:
        self._on[stream] = False
        self.places.leave(stream)
        self._forgive(stream)

    def _blink(self, stream: int, away_s: float, now: float) -> None:
        """A stream loses its connection, and is back later unless its day is over."""
        if self._on[stream] and self.places.at[stream] >= 0:
            self._go(stream)
            if now + away_s < self.cameras.closes_s[stream]:
                self._at(now + away_s, lambda at: self._come(stream, at))

    def _place(self, stream: int, now: float, recovery: Recovery | None = None) -> None:
        """Find a box for a stream that wants one and has none; refused, it comes again."""
        if not self._on[stream] or self.places.at[stream] >= 0:
            return
        box, passed = self.places.place(stream, now)
        self.totals.placements += 1
        self.totals.passed += passed and box >= 0
        if box >= 0:
            self._owed_s[box] += self.costs.whole_s
            if recovery is not None:
                recovery.moves += 1
                self.totals.moves_away += 1
                self._minute["moves"] += 1
            return
        self.totals.refused += 1
        self._minute["refused"] += 1
        again_s = float(self._rng.uniform(*self.trouble.retry_s))
        self._at(now + again_s, lambda at: self._place(stream, at, recovery))

    def _strike(self, incident: Incident, now: float) -> None:
        """Boxes go, their streams look for others, and the boxes come back."""
        boxes = [box for box in incident.boxes if self.places.alive[box]]
        if not boxes:
            return
        lost = [stream for box in boxes for stream in self.places.lose(box)]
        self._owed_s[boxes] = 0
        recovery = Recovery(now, incident.what, len(boxes), len(lost), waiting=set(lost))
        self.recoveries.append(recovery)
        self.totals.ideal_moves += len(lost)
        wait_s = 0.0 if incident.told else self.trouble.detect_s
        for stream in lost:
            at_s = now + wait_s + float(self._rng.uniform(0, self.trouble.jitter_s))
            self._at(at_s, lambda at, s=stream: self._place(s, at, recovery))
        self._at(now + incident.away_s, lambda at: self._return(boxes, at))

    def _return(self, boxes: list[int], now: float) -> None:
        """Boxes are there again: streams that belong to them go home, one after the other on each."""
        for box in boxes:
            belongs = self.places.join(box)
            self.totals.ideal_moves += len(belongs)
            for number, stream in enumerate(belongs):
                at_s = now + (number + 1) * self.trouble.home_every_s
                self._at(at_s, lambda at, s=stream, b=box: self._home(s, b, at))

    def _home(self, stream: int, box: int, now: float) -> None:
        """A stream moves to the box that it belongs to, if it still lives elsewhere and there is room."""
        places = self.places
        if places.at[stream] < 0 or places.at[stream] == box or not places.has_room(box, now):
            return
        if places.first(stream) != box:
            return
        places.leave(stream)
        places.place(stream, now)
        self._owed_s[box] += self.costs.whole_s
        self.totals.moves_home += 1
        self._minute["moves"] += 1

    def _serve(self, now: float) -> None:
        """What boxes have time for in this step."""
        places, fps = self.places, self.places.fps
        cost = np.where(self._busy, self.costs.busy_s, self.costs.still_s)
        places.mean_s += (1 - (1 - LASTING) ** (fps * STEP_S)) * (cost - places.mean_s)
        boxes, length = places.at + 1, places.alive.size + 1  # 0: nowhere
        wanted = fps * STEP_S * np.bincount(boxes, weights=cost, minlength=length)[1:]
        streams = np.bincount(boxes, minlength=length)[1:]
        capacity = places.workers * STEP_S
        work = wanted + self._owed_s
        share = np.minimum(1.0, capacity / np.maximum(work, 1e-12))
        self._owed_s *= 1 - share
        self._owed_s[self._owed_s < 1e-9] = 0.0
        self._count(streams, share, np.minimum(work, capacity) / capacity)
        self._recover(now, share)
        if self._check:
            places.check()

    def _count(self, streams: NDArray[np.int64], share: NDArray[np.float64], used: NDArray[np.float64]) -> None:
        frames, totals, minute = self.places.fps * STEP_S, self.totals, self._minute
        lost = frames * float((streams * (1 - share)).sum())
        unserved = frames * float(self._on.sum() - streams.sum())
        wanted = frames * float(self._on.sum())
        totals.frames, totals.lost, totals.unserved = (
            totals.frames + wanted, totals.lost + lost, totals.unserved + unserved,
        )  # fmt: skip
        totals.most_streams = max(totals.most_streams, int(streams.max()))
        totals.seconds_over += STEP_S * int((share < _SERVED).sum())
        totals.box_seconds += STEP_S * int(self.places.alive.sum())
        minute["frames"] += wanted
        minute["lost"] += lost
        minute["unserved"] += unserved
        self._used += used
        self._steps += 1

    def _recover(self, now: float, share: NDArray[np.float64]) -> None:
        """Whose streams are served at their rate again."""
        for recovery in self.recoveries:
            if not recovery.waiting:
                continue
            done = set()
            for stream in recovery.waiting:
                box = self.places.at[stream]
                if not self._on[stream] or (box >= 0 and self._owed_s[box] == 0 and share[box] >= _SERVED):
                    done.add(stream)
            recovery.waiting -= done
            if not recovery.waiting:
                recovery.recovery_s = now + STEP_S - recovery.at_s

    def _forgive(self, stream: int) -> None:
        for recovery in self.recoveries:
            recovery.waiting.discard(stream)

    def _tell(self) -> None:
        """A minute is over."""
        minute, rows = self._minute, self.minutes
        used = (self._used / self._steps)[self.places.alive]
        rows.connected.append(float(self._on.sum()))
        rows.alive.append(float(self.places.alive.sum()))
        low, high = np.percentile(used, [50, 99]).tolist() if used.size else (0.0, 0.0)
        rows.used_p50.append(round(low, 4))
        rows.used_p99.append(round(high, 4))
        rows.used_mean.append(round(float(used.mean()) if used.size else 0.0, 4))
        frames = max(1.0, minute["frames"])
        rows.lost.append(round(minute["lost"] / frames, 6))
        rows.unserved.append(round(minute["unserved"] / frames, 6))
        rows.refused.append(minute["refused"])
        rows.moves.append(minute["moves"])
        self._minute = dict.fromkeys(minute, 0.0)
        self._used[:] = 0
        self._steps = 0
