"""Whose turn it is: deficit round-robin over shares of the workers' time. No threads, no clock, no queues.

M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round robin", SIGCOMM 1995: in each round each share
may use a quantum, what an item costs is taken off, and what is left or owed is carried over. Three things differ, for
frames are not packets (docs/decisions/0022-fair-turns.md): an item's cost is known only afterwards, so that what it
usually costs is taken off first, and the difference when it is done; a share stays in the round until it owes nothing,
though nothing of it waits; and a share that owes nothing is served before those in the round when something comes for
it (as new flows in RFC 8290).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

QUANTUM_S = 0.002
"""Worker time that a share may use in each round: less than nearly any frame takes, so that shares differ by the one
item that they are ahead, and no share has two in a row where others wait."""
USUAL = 1 / 8
"""Weight of the newest item in what an item of a share usually costs."""
LASTING = 1 / 64
"""Weight of the newest item in what an item costs on average."""


class Share:
    """What one lane has had of the workers' time, against the others.

    cost_s : what an item usually costs, by the last few, seconds; 0 before the first. mean_s : on average, by many.
    items : done so far.
    """

    def __init__(self) -> None:
        self.credit_s = 0.0  # that it may still use in this round; below 0: owed
        self.cost_s = self.mean_s = 0.0
        self.charged_s = 0.0  # taken off for the item that is being processed
        self.items = 0
        self.waiting = False  # something of it waits, and no worker has anything of it
        self.running = False


ShareT = TypeVar("ShareT", bound=Share)


class Turns(Generic[ShareT]):
    """The shares that compete. All of equal weight: streams are equals, and the single images of a model count as one.

    Bounded by the number of shares. `take` costs time in proportion to it.
    """

    def __init__(self, quantum_s: float = QUANTUM_S) -> None:
        self._quantum_s = quantum_s
        self._fresh: deque[ShareT] = deque()  # something came for them while they owed nothing
        self._round: dict[ShareT, None] = {}  # the others, in order of service; none is in both
        self.waiting = 0
        """Shares of which something waits."""

    def wait(self, share: ShareT) -> None:
        """Something of it waits now. Does nothing where it waits already, or is being processed."""
        if share.waiting or share.running:
            return
        share.waiting = True
        self.waiting += 1
        if share not in self._round:
            share.credit_s = self._quantum_s
        if share.credit_s > 0:
            self._round.pop(share, None)
            self._fresh.append(share)

    def leave(self, share: ShareT) -> None:
        """Nothing of it waits any more; what it owes it goes on owing."""
        if not share.waiting:
            return
        share.waiting = False
        self.waiting -= 1
        if share in self._fresh:
            self._fresh.remove(share)

    def take(self) -> ShareT | None:
        """Whose item is processed next, None if nothing waits; it is running until `done`."""
        if not self.waiting:
            self._forgive()
            return None
        if self._fresh:
            return self._start(self._fresh[0])
        waiting = [share for share in self._round if share.waiting]
        able = [share for share in waiting if share.credit_s > 0]
        if not able:
            self._pass(min(self._rounds(share) for share in waiting))
            able = [share for share in waiting if share.credit_s > 0] or waiting  # a last bit may be lost in rounding
        return self._start(able[0])

    def riders(self, limit: int, fits: Callable[[ShareT], bool]) -> list[ShareT]:
        """Up to `limit` more whose items are processed together with one just taken; running until `done`.

        None that owes more than one of its items: so no share is ever ahead of its turn by more than that.
        """
        found: list[ShareT] = []
        for share in (*self._fresh, *self._round):
            if len(found) >= limit:
                break
            if share.waiting and share.credit_s > -share.cost_s - self._quantum_s and fits(share):
                found.append(share)
        return [self._start(share) for share in found]

    def done(self, share: ShareT, cost_s: float) -> None:
        """Its item is done, and took `cost_s` of a worker's time."""
        share.running = False
        share.credit_s = min(self._quantum_s, share.credit_s + share.charged_s - cost_s)
        share.cost_s = cost_s if not share.items else share.cost_s + USUAL * (cost_s - share.cost_s)
        share.items += 1
        share.mean_s += max(LASTING, 1 / share.items) * (cost_s - share.mean_s)

    def _start(self, share: ShareT) -> ShareT:
        if share in self._fresh:
            self._fresh.remove(share)
        self._round.pop(share, None)
        self._round[share] = None  # the last of the round
        self.waiting -= 1
        share.waiting, share.running = False, True
        share.charged_s = share.cost_s
        share.credit_s -= share.charged_s
        return share

    def _rounds(self, share: ShareT) -> int:
        """Rounds until it may use something."""
        return math.floor(-share.credit_s / self._quantum_s) + 1

    def _pass(self, rounds: int) -> None:
        """Let that many rounds pass in which nobody can be served."""
        for share in self._round:
            share.credit_s = min(self._quantum_s, share.credit_s + rounds * self._quantum_s)
        self._drop(share for share in self._round if share.credit_s >= 0)

    def _forgive(self) -> None:
        """A worker has nothing to do: nobody waits for what others had."""
        for share in self._round:
            share.credit_s = max(0.0, share.credit_s)
        self._drop(self._round)

    def _drop(self, shares: Iterable[ShareT]) -> None:
        for share in [share for share in shares if not share.waiting and not share.running]:
            del self._round[share]
