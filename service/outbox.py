"""Messages that wait to be sent on one connection: bounded by whoever fills it, through `room`.

Nothing is read from a client while `limit` messages wait for it. Beyond them there is room for what was taken before:
two messages, a result and its picture, for each frame that waits or is computed, and one for what was read last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Outbox:
    """Use on the event loop only. A message counts as waiting until it has been sent."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[tuple[str | bytes, Callable[[], None] | None]] = deque()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._update()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: str | bytes, sent: Callable[[], None] | None = None) -> None:
        """Add a message. Never refuses: what answers work that was taken on earlier must always fit.

        sent : called once it is on its way; must not raise
        """
        self._messages.append((message, sent))
        self._update()

    async def next(self) -> str | bytes:
        """The oldest message; it stays until `sent`."""
        await self._some.wait()
        return self._messages[0][0]

    def sent(self) -> None:
        """The oldest message is on its way."""
        _, told = self._messages.popleft()
        self._update()
        if told is not None:
            told()

    async def room(self) -> None:
        """Wait until fewer messages wait than the limit."""
        await self._room.wait()

    async def empty(self) -> None:
        """Wait until everything has been sent."""
        await self._empty.wait()

    def _update(self) -> None:
        for event, holds in (
            (self._some, bool(self._messages)),
            (self._room, len(self._messages) < self._limit),
            (self._empty, not self._messages),
        ):
            if holds:
                event.set()
            else:
                event.clear()
