"""Whether a stream is served here or by another member of a cluster, and what members agree on before it is.

The service asks; who answers is given to it (`service.cluster`). A server that is alone asks nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from urllib.parse import quote

from service.token_store import KeptStream

ENDLESS_AT = "afterimage.endless_at"
"""In the scope of a request that came by others: the address where an answer without an end is to be fetched."""


class Placement(Protocol):
    """What a server knows of its cluster. Used on the event loop alone."""

    @property
    def members(self) -> int:
        """Members that share the limits on rates, this one included; 1 or more."""

    @property
    def origins(self) -> Collection[str]:
        """Of the cluster's pages, such as http://10.0.0.7:8001: every member's, and that of what stands before them."""

    def address(self, stream_id: str) -> str | None:
        """Where a stream belongs, such as http://10.0.0.7:8001; None: here. Answers at once, from what is known."""

    async def find(self, stream_id: str) -> KeptStream | None:
        """A stream with a token that any member has made; None where there is none. Raises Overloaded as `claim`."""

    async def make(self, kept: KeptStream, room: bool | None = None) -> None:
        """Count a stream that was made here, and let others know of it; `address` then says where it is to be opened.

        room : whether this server would admit it; None where only its load says so
        Raises StreamTaken where there is one of its id, TooManyOwned or TooManyStreams where the cluster has as many as
        it may, Overloaded where nobody has room or nobody answers.
        """

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None, room: bool | None = None) -> None:
        """Count a stream that is to be opened here, once however often it is claimed, and keep what others must know.

        owner : the name of its key. kept : where it has a token. room : as in `make`. Afterwards `address` may name
        another member: one with room, or where the cluster knows better.
        Raises as `make`, and NotAuthorised where the stream is somebody else's.
        """

    def release(self, stream_id: str) -> None:
        """The stream is forgotten here for good: count and keep it no longer."""

    def delete(self, stream_id: str, kept: KeptStream | None) -> None:
        """The stream was deleted here: nobody is to have it, whoever has it by now. kept : where it had a token"""

    def leave(self, stream_id: str) -> None:
        """The stream was sent to the member that it belongs to: keep and count it until it is claimed there.

        For as long as it would be kept without a connection; nothing where it has been claimed there by now.
        """


class Alone:
    """Of a server that is no member of anything."""

    members = 1
    origins = ()

    def address(self, stream_id: str) -> str | None:
        """Here."""
        return None

    async def find(self, stream_id: str) -> KeptStream | None:
        """None: what this server has made it knows."""
        return None

    async def make(self, kept: KeptStream, room: bool | None = None) -> None:
        """Nobody else has to know."""

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None, room: bool | None = None) -> None:
        """Nothing to count that the server does not count itself."""

    def release(self, stream_id: str) -> None:
        """Nothing was kept."""

    def delete(self, stream_id: str, kept: KeptStream | None) -> None:
        """Nobody else has it."""

    def leave(self, stream_id: str) -> None:
        """There is nowhere to go."""


def ws_url(address: str, stream_id: str) -> str:
    """Where clients connect to a stream. address : of its server, http or https."""
    return f"ws{address.rstrip('/').removeprefix('http')}/v1/streams/{quote(stream_id, safe='')}/ws"
