"""Checks that several routes share."""

from __future__ import annotations

from fastapi import Request

from service.errors import Problem
from service.origin import origin_allowed
from service.settings import is_loopback
from service.state import service_of


async def own_origin(request: Request) -> None:
    """Refuse requests that a page of another origin makes."""
    settings = service_of(request).settings
    loopback = is_loopback(settings.host)
    if not origin_allowed(request.headers, request.url.scheme, settings.allowed_origins, loopback=loopback):
        detail = "this page's origin may not use the server; see the setting allowed_origins"
        raise Problem(403, "forbidden_origin", detail)


async def require_infer(request: Request) -> None:
    """Refuse requests that may not have frames computed."""
    await own_origin(request)


async def require_admin(request: Request) -> None:
    """Refuse requests that may not change what is served: others than those to a server on loopback."""
    await own_origin(request)
    if not is_loopback(service_of(request).settings.host):
        raise Problem(403, "forbidden", "admin requests are off where the server listens beyond loopback")


async def authorise_key(request: Request, api_key: str | None) -> None:
    """`require_infer` for clients that send their key in a field of a form; called once the form is read.

    api_key : what the field held; None without one
    """
    await require_infer(request)


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
