"""Subprotocols of the WebSocket handshake: the message encoding, and a bearer token for browsers.

Browsers cannot set headers on a WebSocket, so the token travels as a second subprotocol that is never echoed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from .errors import ErrorCode, WireError

BEARER_PREFIX = "base64.websocket.bearer."
MAX_TOKEN_CHARS = 512

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+\Z")


class Encoding(StrEnum):
    """Subprotocols, by the encoding of the structured messages."""

    JSON = "afterimage.v1"
    MSGPACK = "afterimage.v1.msgpack"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client offered: `encoding` is to be echoed, `token` (None: no token) never is."""

    encoding: Encoding
    token: str | None

    def __repr__(self) -> str:
        return f"Offer({self.encoding.value}, token={'yes' if self.token else 'no'})"


def bearer_subprotocol(token: str) -> str:
    """`base64.websocket.bearer.` and the token in base64url without padding."""
    return BEARER_PREFIX + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode("ascii")


def offer_subprotocols(encoding: Encoding, token: str | None = None) -> list[str]:
    """The subprotocols a client offers, in order."""
    return [encoding.value] + ([bearer_subprotocol(token)] if token else [])


def parse_subprotocols(offered: Iterable[str]) -> Offer:
    """Choose the first encoding that is known and read the bearer token.

    WireError if no encoding is known, or if a token is there twice or is not base64url text.
    """
    names = [name.strip() for name in offered]
    known = {encoding.value: encoding for encoding in Encoding}
    encoding = next((known[name] for name in names if name in known), None)
    if encoding is None:
        shown = [name for name in names if not name.startswith(BEARER_PREFIX)]
        raise WireError(
            ErrorCode.BAD_MESSAGE,
            f"expected subprotocol {' or '.join(known)}, got {', '.join(shown)[:200] or 'none'}",
        )
    tokens = [name[len(BEARER_PREFIX) :] for name in names if name.startswith(BEARER_PREFIX)]
    if len(tokens) > 1:
        raise WireError(ErrorCode.UNAUTHORIZED, f"expected one bearer token, got {len(tokens)}")
    return Offer(encoding, _decode_token(tokens[0]) if tokens else None)


def _decode_token(text: str) -> str:
    if len(text) > MAX_TOKEN_CHARS or not _BASE64URL.match(text):
        raise WireError(ErrorCode.UNAUTHORIZED, "expected a bearer token in base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise WireError(ErrorCode.UNAUTHORIZED, "expected a bearer token, base64url of UTF-8 text") from None
