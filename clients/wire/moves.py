"""Where a client may be sent with its stream: the addresses of `moved` that it takes. Knows nothing of sockets.

Whoever a client connects to may send it elsewhere, its token with it: so what an address may be is narrow, and the same
for every client (`golden/moves.json`).
"""

from __future__ import annotations

import re

from .errors import ErrorCode, WireError

MAX_MOVES = 4
"""Moves that are followed in a row; the next one is a failure like a lost connection."""

_WS_URL = re.compile(
    r"(?P<scheme>wss?)://"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*/ws)",
    re.ASCII,
)


def follow(ws_url: str, url: str) -> str:
    """`ws_url` of a `moved` that came from `url`, if a client may go there.

    That is ws or wss, and wss unless `url` is plainly ws or http; a name or an address, perhaps a port, and a path that
    ends in the same two parts as the path of `url` (the stream's id and ws): no user, no query, no fragment, nothing
    quoted.
    Raises WireError.
    """
    match = _WS_URL.fullmatch(ws_url)
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        raise WireError(
            ErrorCode.BAD_MESSAGE,
            f"expected moved.ws_url such as ws://10.0.0.7:8000/v1/streams/ID/ws, got {len(ws_url)} other characters",
        )
    if match["scheme"] != "wss" and not url.lower().startswith(("ws:", "http:")):
        raise WireError(
            ErrorCode.BAD_MESSAGE,
            "expected a move from wss to wss, got one to ws: the token would be sent in the clear",
        )
    path = url.partition("?")[0]
    if match["path"].split("/")[-2:] != path.split("/")[-2:]:
        raise WireError(ErrorCode.BAD_MESSAGE, "expected a move of this stream, got one of another")
    return ws_url
