"""Which part of its maps a stream looks at again, and when: so that no error below a threshold lives for ever.

Knows frames and their times, and nothing of maps: a turn is a number from 0 to 1 that goes round (decision 18).
"""

from __future__ import annotations

PARTS = 50
"""Parts of a turn: first the image is looked at again, then step after step, each from what is fresh already."""
_STRETCHES = tuple(n for n in range(PARTS, 0, -1) if PARTS % n == 0)


class Turn:
    """Where a stream is in its turn of refresh.

    frames, seconds : how long a turn takes, for frames without a time (rounded up to a multiple of 50) and with one. 0
    frames for no turns at all, 0 seconds for turns by frames whatever their times. By time, frames that come slowly do
    more of a turn each, and fast ones do some of it less often.
    """

    def __init__(self, frames: int, seconds: float) -> None:
        self._per_frame = 1.0 / -(-frames // PARTS) if frames else 0.0
        self._per_second = PARTS / seconds if seconds else 0.0
        self.forget()

    def restart(self) -> None:
        """All is fresh: a turn begins."""
        self._done, self._due = 0, 0.0  # parts done of this turn, and those that have fallen due since

    def forget(self) -> None:
        """A turn begins, and time as well: the next frame's may be of another clock."""
        self.restart()
        self._last: float | None = None

    def next(self, at_s: float | None) -> tuple[int, int]:
        """Which part the frame at that time does, of how many; 0 of 0 for none. Times that go back count as no time."""
        self._due = min(self._due + self._passed(at_s), float(PARTS))
        for stretch in _STRETCHES:
            if stretch <= self._due + 1e-9 and self._done % stretch == 0:
                part, parts = self._done // stretch, PARTS // stretch
                self._due -= stretch
                self._done = (self._done + stretch) % PARTS
                return part, parts
        return 0, 0

    def _passed(self, at_s: float | None) -> float:
        """Parts that fall due between the last frame and this one."""
        last, self._last = self._last, at_s
        if not self._per_frame or at_s is None or not self._per_second:
            return self._per_frame
        return 0.0 if last is None else max(at_s - last, 0.0) * self._per_second
