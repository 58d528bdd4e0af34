"""Which frames of a connection are worth computing, by its rates: a pure function of times, sizes and what was found.

A stream is *idle* when nothing has changed in it for `idle_after_s`. While it is idle only `idle_fps` frames a second
are looked at, and a frame whose encoded size says that it is another picture. The first frame in which anything changed
ends it: so change is noticed within 1 / idle_fps seconds, and the frames after it are computed at the full rate.
"""

from __future__ import annotations

EARLY = 0.5
"""Of an interval: a frame may come so much before it is due, cameras jitter; the next is due no earlier for it."""
RESIZED = 0.02
"""An encoded frame that differs by more than this part of its size from the last one computed is looked at."""


class Pace:
    """Of one connection. Times in nanoseconds of a steady clock; use on the event loop only.

    max_fps, idle_fps : frames a second at most, and while idle; None: no limit. idle_after_s : see the module.
    """

    def __init__(self, max_fps: float | None = None, idle_fps: float | None = None, idle_after_s: float = 5.0) -> None:
        self.max_fps = max_fps
        self.idle_fps = idle_fps
        self._idle_after_ns = idle_after_s * 1e9
        self._due_ns = 0.0  # when the next frame is, by max_fps
        self._last_ns: int | None = None  # when the last frame was let through
        self._last_bytes = 0
        self._quiet_since_ns: int | None = None  # the first result without change since the last one with it

    def skips(self, now_ns: int, nbytes: int, *, wanted: bool = False) -> bool:
        """Whether a frame that arrives now is settled without being looked at.

        `max_fps` holds on average (generic cell rate algorithm, ITU-T I.371): a camera of just that rate loses none.
        nbytes : its encoded size. wanted : it is to be computed whatever the idle rate, as it asks for a reset.
        """
        interval_ns = 1e9 / self.max_fps if self.max_fps is not None else 0.0
        if self._last_ns is not None and now_ns < self._due_ns - EARLY * interval_ns:
            return True
        if not wanted and self._rests(now_ns) and not self._resized(nbytes):
            return True
        self._due_ns = interval_ns + (now_ns if self._last_ns is None else max(now_ns, self._due_ns))
        self._last_ns, self._last_bytes = now_ns, nbytes
        return False

    def found(self, now_ns: int, changed: bool) -> None:
        """A frame was computed; whether anything had changed in it."""
        if changed:
            self._quiet_since_ns = None
        elif self._quiet_since_ns is None:
            self._quiet_since_ns = now_ns

    def idle(self, now_ns: int) -> bool:
        """Whether the idle rate applies."""
        since = self._quiet_since_ns
        return self.idle_fps is not None and since is not None and now_ns - since >= self._idle_after_ns

    def _rests(self, now_ns: int) -> bool:
        """Whether it is idle, and was looked at a short time ago."""
        if self.idle_fps is None or self._last_ns is None or not self.idle(now_ns):
            return False
        return now_ns - self._last_ns < 1e9 / self.idle_fps

    def _resized(self, nbytes: int) -> bool:
        return abs(nbytes - self._last_bytes) > RESIZED * self._last_bytes


def slower(*rates: float | None) -> float | None:
    """The lowest of some rates; None, no limit, where all are None."""
    limits = [rate for rate in rates if rate is not None]
    return min(limits) if limits else None
