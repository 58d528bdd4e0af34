"""Requests about a stream go to the member that has it; the list of streams is of all members.

Plain HTTP between members, with the caller's own headers: each member decides for itself who may what. Frames and
WebSockets never take this way.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.closing import cancel
from service.cluster.membership import THROUGH_GATEWAY, Membership
from service.errors import Problem, overloaded
from service.state import Service

log = logging.getLogger("afterimage.cluster")

HEADER = "x-afterimage-forwarded"
"""Marks what a member passes on: whoever gets it answers by itself."""
MAX_BODY_BYTES = 64 << 10
"""Of requests about one stream."""
CONNECT_S = 2.0
READ_S = 30.0
LISTED_S = 3.0
_STREAM = re.compile(r"/v1/streams/([A-Za-z0-9_-]{1,64})(/.*)?\Z")
_OF_A_HOP = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


class Forward:
    """Middleware around the app of a member.

    client : of `peers`; whoever made it closes it
    """

    def __init__(self, app: ASGIApp, membership: Membership, client: httpx.AsyncClient) -> None:
        self._app = app
        self._membership = membership
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer here, or have another member answer."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path, headers = scope["path"], Headers(scope=scope)
        if path == "/v1/streams" and scope["method"] == "GET" and HEADER not in headers:
            return await self._list(scope, receive, send)
        found = _STREAM.match(path)
        if found is None or (scope["method"] == "POST" and not found[2]):  # one that is to be made is made by anybody
            return await self._app(scope, receive, send)
        service = scope["app"].state.service
        assert isinstance(service, Service)
        here = HEADER in headers or service.streams.get(found[1]) is not None
        address = None if here else self._membership.home(found[1])
        if address is None:
            THROUGH_GATEWAY.set(False)  # answers, unlike frames, may take the way by the common address
            return await self._app(scope, receive, send)
        try:
            service.access.pace(HTTPConnection(scope), None)  # the other member counts this one as the peer
            return await self._pass(address, scope, receive, send)
        except Problem as problem:
            return await problem.response()(scope, receive, send)
        except httpx.HTTPError as error:
            log.warning("a member does not answer: %s", type(error).__name__)
            gone = overloaded("the stream's member does not answer", service.settings.retry_after_ms)
            return await gone.response()(scope, receive, send)

    async def _pass(self, address: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Have another member answer, and hand its answer on as it comes."""
        body = await _body(receive)
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        request = self._client.build_request(
            scope["method"], f"{address}{scope['path']}{query}", headers=_passed(scope), content=body
        )
        response = await self._client.send(request, stream=True)
        try:
            headers = [(name, value) for name, value in response.headers.raw if _goes_on(name)]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            pump = asyncio.create_task(_pump(response, send), name="afterimage-forward")
            gone = asyncio.create_task(_gone(receive), name="afterimage-forward-gone")
            await asyncio.wait([pump, gone], return_when=asyncio.FIRST_COMPLETED)
            await cancel(pump, gone)
        finally:
            await response.aclose()

    async def _list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The streams of all members, by what each of them tells this caller."""
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        path, headers = f"{scope['path']}{query}", _passed(scope)
        addresses = [seat.address for seat in self._membership.seats.values()]
        if len(addresses) < 2:
            return await self._app(scope, receive, send)
        answers = await asyncio.gather(*(self._ask(f"{address}{path}", headers) for address in addresses))
        refusal = next((answer for answer in answers if answer is not None and answer.status_code != 200), None)
        if refusal is not None:
            own = [(name, value) for name, value in refusal.headers.raw if _goes_on(name)]
            await send({"type": "http.response.start", "status": refusal.status_code, "headers": own})
            return await send({"type": "http.response.body", "body": refusal.content})
        streams = [stream for answer in answers if answer is not None for stream in answer.json()["streams"]]
        told: dict[str, Any] = {"streams": streams}
        silent = [address for address, answer in zip(addresses, answers, strict=True) if answer is None]
        await JSONResponse(told | ({"unreachable": silent} if silent else {}))(scope, receive, send)

    async def _ask(self, url: str, headers: list[tuple[bytes, bytes]]) -> httpx.Response | None:
        try:
            return await self._client.get(url, headers=headers, timeout=LISTED_S)
        except httpx.HTTPError:
            return None


def peers(certificate: Path | None) -> httpx.AsyncClient:
    """For requests to other members, to be closed at the end.

    certificate : that all members show; they are called by address, which it may not name. None: plain http is spoken
    """
    verify: ssl.SSLContext | bool = True
    if certificate is not None:
        verify = ssl.create_default_context(cafile=str(certificate))
        verify.check_hostname = False
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    return httpx.AsyncClient(timeout=timeout, trust_env=False, verify=verify)


def _passed(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The caller's headers, Host included: pages of the common address are the cluster's own."""
    return [*((name, value) for name, value in _headers(scope) if _goes_on(name)), (HEADER.encode(), b"1")]


def _headers(scope: Scope) -> Iterable[tuple[bytes, bytes]]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return headers


def _goes_on(name: bytes) -> bool:
    return name.lower().decode("latin-1") not in _OF_A_HOP


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "bad_http", "the request was cut off")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, "too_large", f"expected at most {MAX_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def _pump(response: httpx.Response, send: Send) -> None:
    async for piece in response.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
