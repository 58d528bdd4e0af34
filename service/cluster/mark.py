"""What a member writes on a request that it passes on, so that another one believes it: who asked, and when.

An HMAC-SHA256 under a secret that the directory tells members alone. Without TLS others on the way can read a mark, and
send that very request again for as long as it is good; they cannot make one.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

GOOD_S = 30.0
"""How far apart the clocks of two members may be, seconds."""
MAX_CHARACTERS = 256


class Passed(NamedTuple):
    """A request that is passed on. peer : who asks, as `service.access.peer_of` names them"""

    method: str
    path: str
    peer: str


def write(secret: bytes, request: Passed, now: float) -> str:
    """The mark. now : Unix time, seconds"""
    return f"{now:.0f} {_mac(secret, request, f'{now:.0f}')} {request.peer}"


def read(secret: bytes, method: str, path: str, mark: str, now: float) -> str | None:
    """The peer that a mark names; None where it is not of this cluster, not of this request, or too old."""
    at, _, rest = mark.partition(" ")
    mac, _, peer = rest.partition(" ")
    if not secret or len(mark) > MAX_CHARACTERS or not (at.isascii() and at.isdigit()):
        return None
    expected = _mac(secret, Passed(method, path, peer), at)
    genuine = hmac.compare_digest(expected.encode(), mac.encode("utf-8", "surrogatepass"))
    return peer if genuine and abs(now - int(at)) <= GOOD_S else None


def _mac(secret: bytes, request: Passed, at: str) -> str:
    about = "\n".join((at, *request)).encode("utf-8", "surrogatepass")
    return hmac.new(secret, about, hashlib.sha256).hexdigest()
