"""Whether one more stream can be served: the workers' time that streams want, against what there is.

A new stream is refused before those that exist become slower than they should be; those are never closed for it. What
a stream *wants* is the lower of what it sends and what it is promised: its `max_fps`, or without one the setting
`useful_fps`, since a client that sends whenever it may would else seem to want everything. Knows no sockets and no
threads; times are seconds of a steady clock. Bounded by the numbers of streams and models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

SPAN_S = 5.0
"""Over which rates are averaged."""
SETTLE_S = 10.0
"""For so long after it came a stream counts with what it is promised, whatever it has sent so far."""
KNOWN_ITEMS = 16
"""Frames after which a stream's own cost is taken: its first one is a keyframe."""


class Overloaded(RuntimeError):
    """There is no room for a new stream; the message has the figures."""


class Rate:
    """Events a second, averaged with weights that fall by half each `SPAN_S` x ln 2."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._last: float | None = None

    def add(self, now: float) -> None:
        """One event."""
        self._sum = self._faded(now) + 1
        self._last = now

    def per_s(self, now: float) -> float:
        """As of now."""
        return self._faded(now) / SPAN_S

    def _faded(self, now: float) -> float:
        return 0.0 if self._last is None else self._sum * math.exp(-max(0.0, now - self._last) / SPAN_S)


@dataclass
class Demand:
    """What a stream asks of the workers.

    promised_fps : frames a second that it is to be served at, as far as it sends them. since : when it came.
    """

    promised_fps: float = 0.0
    since: float = field(default_factory=time.monotonic)
    offered: Rate = field(default_factory=Rate)

    def wanted_fps(self, now: float) -> float:
        """Frames a second that it wants."""
        if now - self.since < SETTLE_S:
            return self.promised_fps
        return min(self.promised_fps, self.offered.per_s(now))


class Usage(Protocol):
    """What a lane has cost so far (`service.turns.Share`)."""

    @property
    def mean_s(self) -> float: ...
    @property
    def items(self) -> int: ...


class Candidate(Protocol):
    """A stream, as it is counted (`service.streams.Stream`)."""

    @property
    def model(self) -> str | None: ...
    @property
    def lane(self) -> Usage | None: ...
    @property
    def demand(self) -> Demand: ...
    @property
    def attachment(self) -> object | None: ...


class Admission:
    """The load of the workers, and whether more fits.

    workers : threads. headroom : share of their time that new streams leave free, 0 to 1.
    """

    def __init__(self, workers: int, headroom: float) -> None:
        self._workers = workers
        self._headroom = headroom
        self._costs: dict[str, float] = {}  # seconds a frame, by model

    def load(self, streams: Iterable[Candidate], now: float) -> float:
        """Worker seconds a second that streams want, 1 each at most; as many as there are workers is all there is."""
        there = [s for s in streams if s.attachment is not None or now - s.demand.since < SETTLE_S]
        self._learn(there)
        return sum(min(1.0, s.demand.wanted_fps(now) * self._cost(s.model, s.lane)) for s in there)

    def refuse(self, model: str, fps: float, streams: Iterable[Candidate], now: float) -> str | None:
        """Why a new stream of a model at so many frames a second is one too many, with figures; None if it is not.

        A model of which nothing was computed yet costs nothing: the first streams find out. A stream that is alone is
        never one too many: there is nobody that it could slow down.
        """
        most, taken = self._workers * (1 - self._headroom), self.load(streams, now)
        more = min(1.0, fps * self._cost(model, None))
        if not taken or not more or taken + more <= most:
            return None
        return (
            f"expected streams that want at most {most:.2f} of {self._workers} workers' time, got {taken:.2f}"
            f" and {more:.2f} more for {fps:g} frames a second of {model}"
        )

    def refuse_image(self, streams: Iterable[Candidate], now: float) -> str | None:
        """Why no single image should be computed now; None if it may: streams want more than there is without it."""
        taken = self.load(streams, now)
        if taken <= self._workers:
            return None
        return f"expected streams that leave time for images, they want {taken:.2f} of {self._workers} workers' time"

    def forget(self, models: Iterable[str]) -> None:
        """Keep costs of these models only."""
        kept = set(models)
        self._costs = {name: cost for name, cost in self._costs.items() if name in kept}

    @property
    def costs_s(self) -> Mapping[str, float]:
        """Seconds that a frame usually costs, by model."""
        return self._costs

    def _learn(self, streams: Iterable[Candidate]) -> None:
        """A frame of a model costs what it costs its streams on average."""
        found: dict[str, list[float]] = {}
        for stream in streams:
            if stream.model is not None and stream.lane is not None and stream.lane.items >= KNOWN_ITEMS:
                found.setdefault(stream.model, []).append(stream.lane.mean_s)
        self._costs |= {model: sum(costs) / len(costs) for model, costs in found.items()}

    def _cost(self, model: str | None, lane: Usage | None) -> float:
        if lane is not None and lane.items >= KNOWN_ITEMS:
            return lane.mean_s
        return self._costs.get(model or "", 0.0 if lane is None else lane.mean_s)
