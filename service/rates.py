"""Token buckets by name, bounded in number: how often somebody may do something."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_NAMES = 4096


class Buckets:
    """One bucket per name. A bucket holds `burst` tokens and gets `per_s` of them a second.

    sharers : how many have such buckets for the same names; each gives its share, so that all together give no more
        (of a `burst` below their number one each)
    The names used longest ago are forgotten when there are too many; a forgotten one starts with a full bucket.
    """

    def __init__(
        self,
        per_s: float,
        burst: float,
        *,
        most: int = MOST_NAMES,
        clock: Callable[[], float] = time.monotonic,
        sharers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._sharers = sharers
        self._most = most
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str) -> float:
        """Take a token. Returns 0.0, or, where there is none, the seconds until there will be one."""
        now, sharers = self._clock(), self._sharers()
        per_s, burst = self._per_s / sharers, max(1.0, self._burst / sharers)
        level, since = self._levels.pop(name, (burst, now))
        level = min(burst, level + (now - since) * per_s)
        taken = level >= 1.0
        self._levels[name] = (level - taken, now)
        while len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0 if taken else (1.0 - level) / per_s
