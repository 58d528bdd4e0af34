"""The memory that sessions of streams may take together: a cap, kept by freeing what was used longest ago.

Knows no sockets and no frames. Thread-safe. Holders are known by weak references: one that nobody has any more counts
for nothing, so that nothing has to be given back. Bounded by the number of holders, and by the cap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary


class Holder(Protocol):
    """Who has a session, or is to have one (`service.pipeline.FramePipeline`)."""

    @property
    def nbytes(self) -> int:
        """What its session takes, known before it is there."""

    def evict(self) -> None:
        """Free the session. Called under the lock of `Caches`, while nobody uses it."""


class CacheFull(RuntimeError):
    """There is no room under the cap, whatever is freed; the message has the figures."""


@dataclass
class _Entry:
    nbytes: int
    used: float
    held: bool = False
    filled: bool = False


class Caches:
    """Sessions under a cap.

    cap_bytes : for sessions and what `fixed` says; None: no cap. fixed : bytes that are taken anyway: models' weights.
    clock : seconds.
    """

    def __init__(
        self,
        cap_bytes: int | None = None,
        fixed: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cap_bytes = cap_bytes
        self.evictions = 0
        """Sessions freed to make room, so far."""
        self._fixed, self._clock = fixed, clock
        self._entries: WeakKeyDictionary[Holder, _Entry] = WeakKeyDictionary()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, holder: Holder) -> Iterator[None]:
        """Keep room for a holder's session, and keep it from being freed, while it is used.

        One thread at a time for each holder. Frees sessions that were used longest ago and are not used now, where that
        makes the room. Raises CacheFull where it does not.
        """
        with self._lock:
            entry = self._entries.get(holder)
            if entry is None:
                entry = self._take(holder)
            entry.held, entry.used = True, self._clock()
        try:
            yield
        finally:
            with self._lock:
                entry.held, entry.used = False, self._clock()

    def filled(self, holder: Holder) -> None:
        """A frame was computed in a holder's session: until then the machine does not see what it takes."""
        with self._lock:
            if (entry := self._entries.get(holder)) is not None:
                entry.filled = True

    def forget(self, holder: Holder) -> None:
        """A holder has given its session up, and is not held: its next one may take another room."""
        with self._lock:
            self._entries.pop(holder, None)

    @property
    def held_bytes(self) -> int:
        """What all sessions take."""
        with self._lock:
            return self._total()

    def free_one(self, holders: Collection[Holder]) -> bool:
        """Free the session of some holders that was used longest ago, of those not used now; whether there was one."""
        with self._lock:
            known = [(self._entries[holder].used, holder) for holder in holders if holder in self._entries]
            unused = [pair for pair in known if self._entries[pair[1]].nbytes and not self._entries[pair[1]].held]
            if not unused:
                return False
            _, holder = min(unused, key=lambda pair: pair[0])
            holder.evict()
            del self._entries[holder]
            self.evictions += 1
            return True

    @property
    def unfilled_bytes(self) -> int:
        """What sessions will take beside what the machine sees of them."""
        with self._lock:
            return sum(entry.nbytes for entry in list(self._entries.values()) if not entry.filled)

    def refuse(self, nbytes: int, *, quiet_s: float, spare: Collection[Holder] = ()) -> str | None:
        """Why one more session of so many bytes would not fit, with figures; None if it would.

        quiet_s : what was used within so many seconds is not to be freed for it, `spare` aside.
        """
        if self.cap_bytes is None or not nbytes:
            return None
        now = self._clock()
        with self._lock:
            kept = [entry for holder, entry in list(self._entries.items()) if holder not in spare]
            busy = sum(entry.nbytes for entry in kept if entry.held or now - entry.used < quiet_s)
        needed = busy + self._fixed() + nbytes
        if needed <= self.cap_bytes:
            return None
        return (
            f"expected at most {_mib(self.cap_bytes)} for models and streams in use, got {_mib(needed)} with this one"
        )

    def _take(self, holder: Holder) -> _Entry:
        nbytes = holder.nbytes
        if self.cap_bytes is not None and nbytes:
            over = self._total() + self._fixed() + nbytes - self.cap_bytes
            unused = [(kept, entry) for kept, entry in list(self._entries.items()) if entry.nbytes and not entry.held]
            if over > sum(entry.nbytes for _, entry in unused):
                raise CacheFull(
                    f"expected {_mib(nbytes)} within the {_mib(self.cap_bytes)} for models and streams;"
                    f" {_mib(self._total() + self._fixed())} are taken"
                )
            for kept, entry in sorted(unused, key=lambda pair: pair[1].used):
                if over <= 0:
                    break
                kept.evict()
                del self._entries[kept]
                self.evictions += 1
                over -= entry.nbytes
        entry = self._entries[holder] = _Entry(nbytes, self._clock())
        return entry

    def _total(self) -> int:
        return sum(entry.nbytes for entry in list(self._entries.values()))


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):.1f} MiB"
