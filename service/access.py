"""Who may do what: by key, by where the server listens, and how often. The table is in docs/security.md.

Addresses of peers are used for counting alone, never to let anybody in: behind a reverse proxy everybody is local.
"""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from service.errors import Problem, printable
from service.keys import KeyRing, KeyRings, Scope
from service.lan.joins import open_joins
from service.rates import Buckets
from service.settings import Settings, is_loopback

log = logging.getLogger("afterimage.access")

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_CHALLENGE = 'Bearer realm="afterimage"'


@dataclass(frozen=True)
class Caller:
    """Who makes a request. key : the name of their key; None: none was asked for."""

    key: str | None = None
    admin: bool = False


ANYBODY = Caller()


def peer_of(connection: HTTPConnection) -> str:
    """The peer's address, for counting."""
    return peer_name(connection.client.host if connection.client else "")


def peer_name(host: str) -> str:
    """An IPv4 address as it is, the /64 network of an IPv6 address: whoever has one of it has all."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address, 64), strict=False))


class Access:
    """Asked for each request and each WebSocket, on the event loop. Raises KeysError where the key file is unusable.

    members : servers that share the rates, this one included
    """

    def __init__(self, settings: Settings, members: Callable[[], int] = lambda: 1) -> None:
        self._settings = settings
        self._loopback = is_loopback(settings.host)
        self.joins = open_joins(settings) if settings.lan else None
        rings = [] if settings.keys_file is None else [KeyRing(settings.keys_file)]
        rings += [] if self.joins is None else [self.joins.ring]
        self.keys = KeyRings(*rings) if rings else None
        self._requests = Buckets(settings.max_request_rate, settings.max_request_rate, sharers=members)
        failures_per_s = settings.max_auth_failures_per_min / 60
        self._failures = Buckets(failures_per_s, settings.max_auth_failures_per_min, sharers=members)

    @property
    def anonymous(self) -> bool:
        """Whether streams may be opened with neither token nor key."""
        if self._settings.anonymous_streams is None and self.keys is not None:
            return False
        return self._settings.anonymous_allowed

    def permit(self, connection: HTTPConnection, scope: Scope, offered: str | None) -> Caller:
        """Who asks, where they may. Raises Problem: 401 without a valid key, 403 where a key is not enough or the
        server's address says no, 429 when too fast.
        """
        caller = self._caller(connection, scope, offered)
        self.pace(connection, caller.key)
        return caller

    def pace(self, connection: HTTPConnection, key: str | None) -> None:
        """Count a request or a handshake. Raises Problem 429 where they come too fast from a key, or a peer without."""
        wait_s = self._requests.take(f"key {key}" if key else peer_of(connection))
        if wait_s:
            detail = f"expected at most {self._settings.max_request_rate:g} requests a second"
            raise too_many("too_fast", detail, wait_s)

    def owner(self, offered: str | None) -> str | None:
        """The name of an offered key that may open streams; None if it is no such key."""
        key = self.keys.find(offered) if self.keys is not None else None
        return key.name if key is not None and key.allows(Scope.INFER) else None

    def failed(self, connection: HTTPConnection, offered: str | None) -> Problem:
        """The answer to a missing or wrong secret: 401, or 429 for a peer that has sent too many wrong ones.

        Nobody is locked out: whoever has a valid one is never asked how often others failed.
        """
        if offered is None:
            detail = "expected a key: Authorization: Bearer ..., or X-API-Key"
            return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": _CHALLENGE})
        wait_s = self._failures.take(peer_of(connection))
        if wait_s:
            return too_many("too_many_failures", "too many wrong keys or tokens from this address", wait_s)
        log.warning("wrong key or token from %s for %s", peer_of(connection), printable(connection.scope["path"]))
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        return Problem(
            401,
            "unauthorized",
            "the key or token is wrong, or its time is over",
            headers={"WWW-Authenticate": challenge},
        )

    def _caller(self, connection: HTTPConnection, scope: Scope, offered: str | None) -> Caller:
        if self.keys is not None:
            key = self.keys.find(offered)
            if key is not None:
                if not key.allows(scope):
                    raise Problem(403, "forbidden", f"the key {key.name!r} has not the scope {scope.value!r}")
                return Caller(key.name, key.allows(Scope.ADMIN))
            if scope is Scope.INFER and self.anonymous and offered is None:
                return ANYBODY
            raise self.failed(connection, offered)
        if scope is Scope.ADMIN:
            self._require_near(connection)
            return Caller(admin=True)
        if not self._loopback and not self.anonymous:
            detail = "this server listens beyond loopback and has no keys: see `afterimage keys add` and keys_file"
            raise Problem(403, "forbidden", detail)
        if self._loopback and not self._is_own_name(connection):
            detail = "expected a loopback name in Host; other names are those of allowed_origins"
            raise Problem(403, "forbidden_host", detail)
        return ANYBODY

    def _require_near(self, connection: HTTPConnection) -> None:
        """Admin requests without keys: to a server on loopback, by a loopback name, through no proxy."""
        direct = not any(name in connection.headers for name in _FORWARDED)
        if not self._loopback or not direct or not is_loopback(_host_of(connection)):
            raise Problem(403, "forbidden", "admin requests need a key, other than on loopback and without a proxy")

    def _is_own_name(self, connection: HTTPConnection) -> bool:
        """Whether Host is a loopback name or an allowed origin's. A page of another name that was made to point here
        (DNS rebinding) sends no Origin with what it reads."""
        host = _host_of(connection)
        return is_loopback(host) or host in {urlsplit(origin).hostname for origin in self._settings.allowed_origins}


def too_many(code: str, detail: str, wait_s: float) -> Problem:
    """429 with Retry-After, whole seconds, at least one."""
    return Problem(429, code, detail, headers={"Retry-After": str(max(1, math.ceil(wait_s)))})


def _host_of(connection: HTTPConnection) -> str:
    try:
        return urlsplit(f"//{connection.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
