"""When to give a connection up that says nothing: networks change without a word, and servers hang. Does no I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_GRACE_S = 1.0


class Patience:
    """How long frames have been under way without one being settled.

    Who looks again after a while and finds that the server is late has perhaps not read what came meanwhile: so it
    listens for `MAX_GRACE_S` more, or half of `timeout_s`, before the connection is given up.
    """

    def __init__(self, timeout_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"expected a timeout above 0 seconds, or None, got {timeout_s}")
        self._timeout_s = timeout_s
        self._clock = clock
        self._since_s = 0.0
        self._grace_until_s: float | None = None

    @property
    def late(self) -> bool:
        """Whether what is due is late, and is being listened for."""
        return self._grace_until_s is not None

    def renew(self) -> None:
        """A frame was settled, or one is sent and none was under way."""
        self._since_s, self._grace_until_s = self._clock(), None

    def pause_s(self, due: bool) -> float | None:
        """How long to wait for a message before asking `is_out`, seconds; None: for ever. `due`: whether one is due."""
        if self._timeout_s is None or not due:
            return self._timeout_s
        now = self._clock()
        if self._grace_until_s is None:
            remaining = self._since_s + self._timeout_s - now
            if remaining > 0:
                return remaining
            self._grace_until_s = now + min(MAX_GRACE_S, self._timeout_s / 2)
        return max(0.0, self._grace_until_s - now)

    def is_out(self, due: bool) -> bool:
        """Whether the connection should be given up."""
        return due and self._grace_until_s is not None and self._clock() >= self._grace_until_s
