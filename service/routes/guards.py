"""Checks that several routes share."""

from __future__ import annotations

from fastapi import Request
from starlette.requests import HTTPConnection

from service.access import ANYBODY, Caller
from service.errors import Problem
from service.keys import Scope
from service.origin import origin_allowed
from service.settings import is_loopback
from service.state import service_of


async def own_origin(request: Request) -> None:
    """Refuse requests that a page of another origin makes."""
    service = service_of(request)
    loopback = is_loopback(service.settings.host)
    if not origin_allowed(request.headers, request.url.scheme, service.allowed_origins, loopback=loopback):
        detail = "this page's origin may not use the server; see the setting allowed_origins"
        raise Problem(403, "forbidden_origin", detail)


async def require_infer(request: Request) -> None:
    """Refuse requests that may not have frames computed; who asks is then `caller_of(request)`."""
    await own_origin(request)
    request.state.caller = service_of(request).access.permit(request, Scope.INFER, offered_key(request))


async def require_admin(request: Request) -> None:
    """Refuse requests that may not change what is served."""
    await own_origin(request)
    request.state.caller = service_of(request).access.permit(request, Scope.ADMIN, offered_key(request))


async def authorise_key(request: Request, api_key: str | None) -> None:
    """As `require_infer`, for APIs whose key is a field of a form; a key in a header counts as well."""
    await own_origin(request)
    offered = offered_key(request) or api_key or None
    request.state.caller = service_of(request).access.permit(request, Scope.INFER, offered)


def caller_of(request: Request) -> Caller:
    """Who `require_infer`, `require_admin` or `authorise_key` has let in."""
    caller = getattr(request.state, "caller", ANYBODY)
    assert isinstance(caller, Caller)
    return caller


def offered_key(connection: HTTPConnection) -> str | None:
    """The key or token of a request's headers: Authorization: Bearer, or X-API-Key."""
    return bearer_token(connection.headers.get("authorization")) or connection.headers.get("x-api-key") or None


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header; None if there is none or it is of another scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; Problem 413 as soon as it is known to be larger than `limit` bytes."""
    too_large = Problem(413, "too_large", f"expected at most {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise too_large
        body += chunk
    return bytes(body)
