"""Where a client connects to: the address that it was given, and where servers have sent it since. Without I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..wire import WireError, follow
from .errors import ClientError, Refused, ServerMisbehaved

STEADY_S = 10.0
"""A connection that was open for so long ends a row of moves, as a frame that is settled does."""


class MovedAway(ClientError):
    """The stream is elsewhere: another connection is to be opened there. Nobody but the clients sees this."""

    def __init__(self, ws_url: str) -> None:
        super().__init__("the stream has moved")
        self.ws_url = ws_url


class Route:
    """The addresses of one stream.

    A move is followed at once, `most` of them in a row. After a failure the client begins again where it was told to;
    where that fails it tries, once, the last address that had the stream: the first server may be the one that is gone.

    most : 0 refuses to be sent anywhere. clock : seconds that only grow
    """

    def __init__(self, first: str, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.here = first
        self.moves = 0
        """Moves followed so far."""
        self._first = first
        self._most = most
        self._clock = clock
        self._row = 0
        self._opened_at: float | None = None
        self._last: str | None = None  # other than the first; had the stream

    def check(self, ws_url: str) -> MovedAway:
        """What to raise for a `moved`. Raises ServerMisbehaved for an address that a client must not go to, Refused
        where the options say that it must not go anywhere.
        """
        try:
            checked = follow(ws_url, self.here)
        except WireError as error:
            raise ServerMisbehaved(f"the server broke the protocol: {error}") from error
        if self._most <= 0:
            raise Refused("moved", "the stream belongs to another server, and the option `moves` is 0")
        return MovedAway(checked)

    def opened(self) -> None:
        """The server at this address has said ready."""
        self._opened_at = self._clock()
        self._last = None if self.here == self._first else self.here

    def settled(self) -> None:
        """A frame was settled here: this is no row of moves."""
        self._row = 0

    def goes(self, moved: MovedAway) -> bool:
        """Whether the move is followed, at once. If not it is a failure; `lost` is to be called."""
        if self._opened_at is not None and self._clock() - self._opened_at > STEADY_S:
            self._row = 0
        self._opened_at = None
        if self._row >= self._most:
            return False
        self._row += 1
        self.moves += 1
        self.here = moved.ws_url
        return True

    def lost(self) -> None:
        """The connection, or the attempt at one, has failed: choose where the next one goes."""
        opened, self._opened_at, self._row = self._opened_at is not None, None, 0
        if self.here == self._first:
            self.here = self._last or self._first
            return
        if not opened:
            self._last = None
        self.here = self._first
