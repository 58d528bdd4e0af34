"""Live figures of one stream: what its last seconds and its last frames were like. Knows no sockets and no labels.

Each frame costs constant time; a stream's figures take 8 KiB, however long it runs. Use on the event loop only.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from typing import Any

STAGES = ("queue", "decode", "diff", "infer", "total")
"""Of a frame, in order; `total` is from its arrival to its result."""

RECENT = 256
"""Frames that quantiles are of."""

WINDOW_S = 10
"""What rates look back on."""

CLOCK_SLACK_S = 0.1
"""A sender's clock may be ahead of ours by so much and still be usable."""
CLOCK_LAG_S = 10.0
"""A first frame that is older than this tells of another clock, not of a slow network."""


class Rate:
    """Events in each second over the last `WINDOW_S`, and over the whole second that is not full yet."""

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * (WINDOW_S + 1)))
        self._first = self._second = -1.0

    def add(self, now_s: float) -> None:
        """One event. now_s : never back."""
        if self._first < 0:
            self._first = now_s
        self._move(now_s)
        self._counts[int(now_s) % len(self._counts)] += 1

    def per_second(self, now_s: float) -> float:
        """Mean over the window; over the time since the first event while that is shorter, but at least a second."""
        if self._first < 0:
            return 0.0
        self._move(now_s)
        return sum(self._counts) / max(1.0, min(now_s - self._first, WINDOW_S + now_s % 1))

    def _move(self, now_s: float) -> None:
        second, slots = int(now_s), len(self._counts)
        if second == self._second:
            return
        for passed in range(max(int(self._second) + 1, second - slots + 1), second + 1):
            self._counts[passed % slots] = 0
        self._second = second


class Recent:
    """The last `RECENT` values, as float32."""

    def __init__(self) -> None:
        self._values = array("f")
        self._next = 0

    def add(self, value: float) -> None:
        """Keep a value in the place of the oldest."""
        if len(self._values) < RECENT:
            self._values.append(value)
            return
        self._values[self._next] = value
        self._next = (self._next + 1) % RECENT

    def quantiles(self, *shares: float) -> list[float] | None:
        """For each share the smallest value that at least so many do not exceed; None before the first."""
        if not self._values:
            return None
        values = sorted(self._values)
        return [round(values[max(0, math.ceil(share * len(values)) - 1)], 3) for share in shares]


class Figures:
    """Figures of one stream. clock : seconds, never back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrivals, self._results = Rate(), Rate()
        self._stages = tuple(Recent() for _ in STAGES)
        self._ages = Recent()
        self._last_result_s: float | None = None
        self.bytes_received = 0
        self.decisions: dict[str, int] = {}
        self.drops: dict[str, int] = {}
        self.last: dict[str, Any] | None = None
        """Of the last result: its number, decision, reason, compute fraction."""
        self.clock_usable: bool | None = None
        """Whether ages can be told from the sender's time stamps; None before a connection's first frame."""

    def opened(self) -> None:
        """A connection begins: its sender's clock is judged anew."""
        self.clock_usable = None

    def received(self, size_bytes: int) -> None:
        """A frame came."""
        self._arrivals.add(self._clock())
        self.bytes_received += size_bytes

    def dropped(self, count: int, cause: str) -> None:
        """So many frames were dropped, for one of a few causes."""
        self.drops[cause] = self.drops.get(cause, 0) + count

    def computed(self, seq: int, decision: str, reason: str, fraction: float, stages_ms: tuple[float, ...]) -> None:
        """A frame was computed. stages_ms : as `STAGES`."""
        self._last_result_s = now = self._clock()
        self._results.add(now)
        self.decisions[decision] = self.decisions.get(decision, 0) + 1
        for recent, spent in zip(self._stages, stages_ms, strict=True):
            recent.add(spent)
        self.last = {"seq": seq, "decision": decision, "reason": reason, "compute_fraction": round(fraction, 6)}

    def sent(self, age_ms: float) -> None:
        """A result was sent, so long after its frame came."""
        self._ages.add(age_ms)

    def judge_clock(self, capture_ts_us: int, now_s: float) -> None:
        """Say whether the sender's clock is usable. now_s : Unix time as the frame came.

        The first frame of a connection decides: it has just come, so that by a clock that tells Unix time, nearly
        right, it is young. Later frames may be of any age.
        """
        if self.clock_usable is None:
            self.clock_usable = -CLOCK_SLACK_S <= now_s - capture_ts_us / 1e6 <= CLOCK_LAG_S

    def brief(self) -> dict[str, Any]:
        """The few that a list of streams shows."""
        now = self._clock()
        return {
            "fps": {"in": round(self._arrivals.per_second(now), 2), "out": round(self._results.per_second(now), 2)},
            "last": self.last,
        }

    def describe(self) -> dict[str, Any]:
        """All of them; what nothing is known of yet is None."""
        idle = None if self._last_result_s is None else round(self._clock() - self._last_result_s, 3)
        return {
            **self.brief(),
            "idle_s": idle,
            "latency_ms": {
                stage: _quantiles(recent) for stage, recent in zip(STAGES, self._stages, strict=True)
            },
            "age_ms": _quantiles(self._ages),
            "decisions": dict(self.decisions),
            "dropped_by_cause": dict(self.drops),
            "bytes_received": self.bytes_received,
        }  # fmt: skip


def _quantiles(recent: Recent) -> dict[str, float] | None:
    found = recent.quantiles(0.5, 0.99)
    return None if found is None else dict(zip(("p50", "p99"), found, strict=True))
