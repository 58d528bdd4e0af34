"""Tickets for looking at one stream's pictures for some minutes: in an address, since an <img> cannot set headers.

An address ends up in histories, chats and logs of proxies; a ticket in it opens nothing else, and not for long. Nothing
is kept: a ticket is its end and a MAC (HMAC-SHA256) over that and the stream. It ends with the stream, and with the
process, whose secret made it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable

from service.streams import Stream

MAX_CHARACTERS = 64


class Tickets:
    """wall : Unix time, seconds."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._secret = secrets.token_bytes(32)
        self._wall = wall

    def issue(self, stream: Stream, seconds: float) -> str:
        """A ticket for the stream, good for so long."""
        ends = math.ceil(self._wall() + seconds)
        return f"{ends}.{self._mac(stream, ends)}"

    def admits(self, stream: Stream, ticket: str) -> bool:
        """Whether the ticket is this stream's, and still good."""
        text, _, mac = ticket.partition(".")
        if not (text.isascii() and text.isdigit()) or len(ticket) > MAX_CHARACTERS:
            return False
        genuine = hmac.compare_digest(self._mac(stream, int(text)).encode(), mac.encode("utf-8", "surrogatepass"))
        return genuine and self._wall() < int(text)

    def _mac(self, stream: Stream, ends: int) -> str:
        """The time a stream was made belongs to it: another may have its id later."""
        about = f"{stream.id} {stream.created_at!r} {ends}".encode()
        digest = hmac.new(self._secret, about, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
