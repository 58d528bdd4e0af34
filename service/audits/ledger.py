"""What audits may cost: a share of the time that passes, and no more. Knows no audits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SAVED_S = 10.0
"""Time whose share may be saved up: a night without audits is no reason for a minute of nothing else."""


class Ledger:
    """A budget of time. Thread-safe.

    share : of one core's time, 0 to 1, whatever the number of workers; 0 affords nothing. clock : seconds, never back.

    From the first moment on, what was spent is at most `share` of what passed, plus what the last spender took beyond
    what it had asked for; and so from any later moment on, plus the share of `SAVED_S`.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"expected a share of 0 to 1, got {share}")
        self.share = share
        self.spent_s = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._saved = 0.0
        self._seen = clock()

    def affords(self, seconds: float) -> bool:
        """Whether so much may be spent now. What costs more than `SAVED_S` gives is saved up for in full."""
        with self._lock:
            now = self._clock()
            most = max(self.share * SAVED_S, seconds, self._saved)
            self._saved = min(most, self._saved + self.share * (now - self._seen))
            self._seen = now
            return self.share > 0 and self._saved >= seconds

    def charge(self, seconds: float) -> None:
        """So much was spent. Raises ValueError for less than nothing."""
        if not seconds >= 0:
            raise ValueError(f"expected 0 seconds or more, got {seconds}")
        with self._lock:
            self._saved -= seconds
            self.spent_s += seconds
