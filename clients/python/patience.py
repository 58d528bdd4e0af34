"""When to give a connection up that says nothing: networks change without a word, and servers hang. Does no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_GRACE_S = 1.0
MAX_DOUBLINGS = 6


class Patience:
    """How long frames have been under way without one being settled.

    Who looks again after a while and finds that the server is late has perhaps not read what came meanwhile: so it
    listens for `MAX_GRACE_S` more, or half of `timeout_s`, before the connection is given up. The next one is given
    twice as long, until a frame is settled.
    """

    def __init__(self, timeout_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"expected a timeout above 0 seconds, or None, got {timeout_s}")
        self._timeout_s = timeout_s
        self._clock = clock
        self._stalls = 0  # in a row: what takes long once may take long again
        self._since_s = 0.0
        self._grace_until_s: float | None = None

    @property
    def late(self) -> bool:
        """Whether what is due is late, and is being listened for."""
        return self._grace_until_s is not None

    def settled(self) -> None:
        """A frame was settled."""
        self._stalls = 0
        self.renew()

    @property
    def _limit_s(self) -> float | None:
        return None if self._timeout_s is None else self._timeout_s * 2.0 ** min(self._stalls, MAX_DOUBLINGS)

    def renew(self) -> None:
        """One is sent and none was under way, or the connection is another one."""
        self._since_s, self._grace_until_s = self._clock(), None

    def pause_s(self, due: bool) -> float | None:
        """How long to wait for a message before asking `is_out`, seconds; None: for ever. `due`: whether one is due."""
        limit_s = self._limit_s
        if limit_s is None or not due:
            return limit_s
        now = self._clock()
        if self._grace_until_s is None:
            remaining = self._since_s + limit_s - now
            if remaining > 0:
                return remaining
            self._grace_until_s = now + min(MAX_GRACE_S, limit_s / 2)
        return max(0.0, self._grace_until_s - now)

    def is_out(self, due: bool) -> bool:
        """Whether the connection should be given up."""
        out = due and self._grace_until_s is not None and self._clock() >= self._grace_until_s
        self._stalls += out
        return out
