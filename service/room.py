"""Memory for what is under way: images, bodies and messages ask before they take it, and are refused where it is short.

What stays is counted by `service.caches`; here the machine, or the container, is asked what it has. What has been
granted and is not taken yet counts beside that. Bodies come from whoever reaches the port, before anybody looks at a
key: together they get half of what is left, so that the other half is there for frames and streams. Thread-safe.
Bounded by what is under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.admission import Overloaded
from service.machine_memory import available_bytes
from service.malloc import give_back

LEFT_BYTES = 32 << 20
"""What images and bodies leave free."""
LAST_BYTES = 24 << 20
"""With less than this nothing large is read any more."""
SMALL_BYTES = 1 << 20
"""So little is not asked for: that is what is left free for."""
LARGE_BYTES = 16 << 20
"""Before so much is granted the kernel is asked anew."""
FRESH_S = 0.1
GIVE_BACK_S = 1.0
"""Between two times that the C library is made to give back what it keeps, which takes milliseconds."""


class NoRoom(Overloaded):
    """There is not the memory for what was asked; the message has the figures."""


class Room:
    """What may still be taken.

    available : bytes, None where that is not known: then all is granted; None asks the machine.
    """

    def __init__(
        self, available: Callable[[], int | None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._available = _ask_machine if available is None else available
        self._clock = clock
        self.beside: Callable[[], int] = lambda: 0
        """Bytes that somebody else has granted and that are not taken yet."""
        self._promised = 0
        self._bodies = 0
        self._gave = float("-inf")
        self._looked: tuple[float, int | None] = (float("-inf"), None)
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, nbytes: int, what: str) -> Iterator[None]:
        """Count so many bytes as taken until they are, or are given back. Raises NoRoom.

        what : they are for, in the refusal.
        """
        if nbytes < SMALL_BYTES:
            yield
            return
        with self._lock:
            if (reason := self._lacks(nbytes, what, LEFT_BYTES, fresh=nbytes >= LARGE_BYTES)) is not None:
                raise NoRoom(reason)
            self._promised += nbytes
        try:
            yield
        finally:
            with self._lock:
                self._promised -= nbytes

    @contextmanager
    def hold_body(self, nbytes: int) -> Iterator[None]:
        """Count so many bytes as taken for bodies of requests, until they are given back. Raises NoRoom."""
        with self._lock:
            if (reason := self._lacks_body(nbytes)) is not None:
                raise NoRoom(reason)
            self._bodies += nbytes
        try:
            yield
        finally:
            with self._lock:
                self._bodies -= nbytes

    def lacks_body(self, nbytes: int) -> str | None:
        """Why a body that takes so many bytes could not be read now, with figures; None if it could."""
        if nbytes < SMALL_BYTES:
            return None
        with self._lock:
            return self._lacks_body(nbytes)

    def short(self) -> str | None:
        """Why nothing large should be read now, with figures; None if it may."""
        with self._lock:
            left = self._left(LAST_BYTES, fresh=True)
        if left is None or left >= LAST_BYTES:
            return None
        return f"expected {LAST_BYTES >> 20} MiB of memory free for messages, {max(0, left) >> 20} MiB are left"

    def lacks(self, nbytes: int, what: str, *, spare: int = LEFT_BYTES, beside: int = 0) -> str | None:
        """Why so many bytes should not be taken now, with figures; None if they may.

        spare : bytes that are to stay free. beside : bytes that would be freed for it.
        """
        with self._lock:
            return self._lacks(nbytes, what, spare, beside, fresh=True)

    def _lacks(self, nbytes: int, what: str, spare: int, beside: int = 0, *, fresh: bool) -> str | None:
        left = self._left(nbytes + spare - beside, fresh=fresh)
        if left is None or nbytes + spare <= left + beside:
            return None
        needed = f"{-(-nbytes >> 20)} MiB of memory for {what} and {spare >> 20} MiB to spare"
        return f"expected {needed}, {max(0, left + beside) >> 20} MiB are left"

    def _lacks_body(self, nbytes: int) -> str | None:
        wanted, others = self._bodies + nbytes, self._promised + self.beside()
        free = self._free(LEFT_BYTES + 2 * wanted + others, fresh=nbytes >= LARGE_BYTES)
        if free is None or wanted <= _quota(free - others):
            return None
        left, needed = max(0, _quota(free - others) - self._bodies), f"{-(-nbytes >> 20)} MiB of memory"
        return f"expected {needed} for the body of a request, {left >> 20} MiB are left for bodies"

    def _left(self, needed: int, *, fresh: bool) -> int | None:
        """What is left, less than nothing where too much was granted."""
        others = self._promised + self.beside()
        free = self._free(needed + others + self._bodies, fresh=fresh)
        # Where memory has become less since bodies were granted theirs, frames do not pay for more than half.
        return None if free is None else free - others - min(self._bodies, _quota(free))

    def _free(self, needed: int, *, fresh: bool) -> int | None:
        """What the machine has, promised or not; where that is less than is needed, after what was freed has been
        given back."""
        at, free = self._looked
        now = self._clock()
        if fresh or now - at >= FRESH_S:
            free = self._available()
            if free is not None and free < needed and now - self._gave >= GIVE_BACK_S:
                self._gave = now
                give_back()
                free = self._available()
            self._looked = now, free
        return free


def _quota(free: int) -> int:
    """Of all bodies together."""
    return max(0, free - LEFT_BYTES) // 2


def _ask_machine() -> int | None:
    return available_bytes()
