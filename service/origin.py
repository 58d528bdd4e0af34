"""Which web pages may use the server: its own, and those of the settings."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.settings import is_loopback

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def origin_allowed(headers: Headers, scheme: str, allowed: Collection[str], *, loopback: bool = False) -> bool:
    """Whether the Origin header, if there is one, is this server's own or one of `allowed`.

    Programs send no Origin and pass; a browser always sends one with a WebSocket. `scheme` is the request's.
    loopback : the server listens on loopback only. Then its own name is a loopback name: another one was made to point
    here by whoever owns it (DNS rebinding).
    """
    origins = headers.getlist("origin")
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].lower()
    own = f"{scheme}://{headers.get('host', '')}".lower()
    if origin in allowed:
        return True
    if loopback and not is_loopback(urlsplit(own).hostname or ""):
        return False
    return _endpoint(origin) == _endpoint(own)


def _endpoint(url: str) -> object:
    """(secure, host, port), or an object equal to nothing else for what is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return object()
    if not parts.hostname:
        return object()
    return parts.scheme in ("https", "wss"), parts.hostname, port
