"""What both clients tell of their stream, beside its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..wire import Ready

if TYPE_CHECKING:
    from .core import ClientCore


class StreamFigures:
    """As of the last message read."""

    _core: ClientCore

    @property
    def ready(self) -> Ready | None:
        """What the server said when the stream was last opened."""
        return self._core.ready

    @property
    def credits(self) -> int:
        """How many frames can be sent at once without waiting."""
        return self._core.protocol.credits

    @property
    def unacked(self) -> int:
        """Frames sent that the server has not settled yet."""
        return self._core.protocol.unacked

    @property
    def url(self) -> str:
        """Where the stream is, as far as is known: its WebSocket address, for logs."""
        return self._core.route.here

    @property
    def moves(self) -> int:
        """How often the stream has gone to another server because the one before said so."""
        return self._core.route.moves

    @property
    def bytes_sent(self) -> int:
        """Bytes of all frames sent, with their headers."""
        return self._core.bytes_sent

    @property
    def server_dropped(self) -> int:
        """Frames that the server has settled without a result, as of the last message that says so."""
        return self._core.server_dropped

    @property
    def refused(self) -> int:
        """Frames that the server has refused."""
        return self._core.refused

    @property
    def lost(self) -> int:
        """Frames that were under way when a connection broke."""
        return self._core.lost
