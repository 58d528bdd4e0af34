"""Whether a stream is served here or by another member of a cluster, and what members agree on before it is.

The service asks; who answers is given to it (`service.cluster`). A server that is alone asks nobody.
"""

from __future__ import annotations

from typing import Protocol

from service.token_store import KeptStream


class Placement(Protocol):
    """What a server knows of its cluster. Used on the event loop alone."""

    @property
    def members(self) -> int:
        """Members that share the limits on rates, this one included; 1 or more."""

    def address(self, stream_id: str) -> str | None:
        """Where a stream belongs, such as http://10.0.0.7:8001; None: here. Answers at once, from what is known."""

    async def find(self, stream_id: str) -> KeptStream | None:
        """A stream with a token that any member has made; None where there is none."""

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None) -> None:
        """Count a stream that is to be opened here, once however often it is claimed, and keep what others must know.

        owner : the name of its key. kept : where it has a token
        Raises TooManyOwned or TooManyStreams where the cluster has as many as it may, Overloaded where nobody answers.
        """

    def release(self, stream_id: str) -> None:
        """The stream is forgotten here for good: count and keep it no longer."""


class Alone:
    """Of a server that is no member of anything."""

    members = 1

    def address(self, stream_id: str) -> str | None:
        """Here."""
        return None

    async def find(self, stream_id: str) -> KeptStream | None:
        """None: what this server has made it knows."""
        return None

    async def claim(self, stream_id: str, owner: str | None, kept: KeptStream | None) -> None:
        """Nothing to count that the server does not count itself."""

    def release(self, stream_id: str) -> None:
        """Nothing was kept."""
