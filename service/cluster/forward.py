"""Requests about a stream go to the member that has it; the list of streams is of all members.

HTTP between members, with the caller's own headers: each member decides for itself who may what. Frames, WebSockets and
other answers without an end never take this way: where to fetch them is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import peer_of
from service.closing import cancel
from service.cluster import mark
from service.cluster.membership import THROUGH_GATEWAY, Membership
from service.cluster.messages import Seat
from service.errors import Problem, overloaded
from service.placement import ENDLESS_AT
from service.routes.guards import require_infer
from service.routes.streams import listed
from service.state import Service

log = logging.getLogger("afterimage.cluster")

HEADER = "x-afterimage-forwarded"
"""Of what a member passes on, with a mark: whoever gets it answers by itself, and counts it as the peer's in the mark.

Without a good mark it says nothing of the peer, and is passed on no further all the same: members that disagree about
who has a stream send nothing in circles.
"""
MAX_BODY_BYTES = 64 << 10
"""Of requests about one stream."""
CONNECT_S = 2.0
READ_S = 30.0
LISTED_S = 3.0
_LIST = "/v1/streams"
_STREAM = re.compile(rf"{_LIST}/([A-Za-z0-9_-]{{1,64}})(/(?:snapshot\.jpg|mjpeg|views))?\Z")
_CERTIFICATE_END = "-----END CERTIFICATE-----"
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
        path, passed = scope["path"], Headers(scope=scope).get(HEADER)
        found = _STREAM.match(path)
        if path != _LIST and found is None:
            return await self._app(scope, receive, send)
        if passed is not None:
            self._believe(scope, passed)
        try:
            if found is not None and (scope["method"] != "POST" or found[2]):  # new ones are made by anybody
                return await self._one(found, scope, receive, send)
            if path == _LIST and scope["method"] == "GET" and passed is None and len(self._membership.seats) > 1:
                return await self._list(scope, receive, send)
        except Problem as problem:
            return await problem.response()(scope, receive, send)
        return await self._app(scope, receive, send)

    def _believe(self, scope: Scope, passed: str) -> None:
        """Count a request as the peer's for whom another member has passed it on, if one has."""
        peer = mark.read(self._membership.secret, scope["method"], scope["path"], passed, time.time())
        if peer is not None:
            scope["client"] = (peer, 0)

    async def _one(self, found: re.Match[str], scope: Scope, receive: Receive, send: Send) -> None:
        """About a stream. Raises Problem."""
        service = scope["app"].state.service
        assert isinstance(service, Service)
        passed = HEADER in Headers(scope=scope)
        here = passed or service.streams.get(found[1]) is not None
        address = None if here else self._membership.home(found[1])
        if address is None:
            if found[2] == "/mjpeg" and (passed or THROUGH_GATEWAY.get()):
                scope[ENDLESS_AT] = self._membership.own_address
            THROUGH_GATEWAY.set(False)  # answers, unlike frames, may take the way by the common address
            return await self._app(scope, receive, send)
        service.access.pace(HTTPConnection(scope), None)
        try:
            await self._pass(f"{address}{found[0]}", scope, receive, send)
        except httpx.InvalidURL:
            raise Problem(400, "bad_http", "expected a usable address") from None
        except httpx.HTTPError as error:
            log.warning("a member does not answer: %s", type(error).__name__)
            raise overloaded("the stream's member does not answer", service.settings.retry_after_ms) from None

    async def _pass(self, url: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Have another member answer, and hand its answer on as it comes."""
        body = await _body(receive)
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        request = self._client.build_request(
            scope["method"], f"{url}{query}", headers=self._headers(scope), content=body
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
        """The streams of all members, by what each of them tells this caller. Raises Problem."""
        request = Request(scope)
        await require_infer(request)
        streams, headers = listed(request), self._headers(scope)
        others = {s: seat.address for s, seat in self._membership.seats.items() if not self._is_own(seat)}
        answers = await asyncio.gather(*(self._ask(f"{address}{_LIST}", headers) for address in others.values()))
        refusal = next((answer for answer in answers if answer is not None and answer.status_code != 200), None)
        if refusal is not None:
            own = [(name, value) for name, value in refusal.headers.raw if _goes_on(name)]
            await send({"type": "http.response.start", "status": refusal.status_code, "headers": own})
            return await send({"type": "http.response.body", "body": refusal.content})
        streams += [stream for answer in answers if answer is not None for stream in answer.json()["streams"]]
        told: dict[str, Any] = {"streams": streams}
        silent = [slot for slot, answer in zip(others, answers, strict=True) if answer is None]
        await JSONResponse(told | ({"unreachable": silent} if silent else {}))(scope, receive, send)

    def _is_own(self, seat: Seat) -> bool:
        return seat.instance == self._membership.instance

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """The caller's, Host included: pages of the common address are the cluster's own; and the mark."""
        request = mark.Passed(scope["method"], scope["path"], peer_of(HTTPConnection(scope)))
        signed = mark.write(self._membership.secret, request, time.time())
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        own = [(name, value) for name, value in headers if _goes_on(name)]
        return [*own, (HEADER.encode(), signed.encode("latin-1", "replace"))]

    async def _ask(self, url: str, headers: list[tuple[bytes, bytes]]) -> httpx.Response | None:
        try:
            return await self._client.get(url, headers=headers, timeout=LISTED_S)
        except httpx.HTTPError:
            return None


class Trust:
    """Believes in whoever shows the very certificate of a file, or one that it had since the start.

    Not in its issuer, who signs for others too: members are called by address, which a certificate may not name.
    Raises OSError where there is none.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _leaf(file)
        self.context = ssl.create_default_context(cadata=self._known)
        self.context.check_hostname = False
        self.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    async def look(self, request: httpx.Request) -> None:
        """Before each request: the file may have been renewed. One that is none now changes nothing."""
        with contextlib.suppress(OSError):
            found = await asyncio.to_thread(_leaf, self._file)
            if found != self._known:
                self.context.load_verify_locations(cadata=found)
                self._known = found


def peers(certificate: Path | None) -> httpx.AsyncClient:
    """For requests to other members, to be closed at the end. Raises OSError.

    certificate : of all members, a file as in `Trust`. None: plain http is spoken
    """
    trust = None if certificate is None else Trust(certificate)
    return httpx.AsyncClient(
        timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
        trust_env=False,
        verify=True if trust is None else trust.context,
        event_hooks={} if trust is None else {"request": [trust.look]},
    )


def _leaf(file: Path) -> bytes:
    """The first certificate of a file, which its owner shows. Raises OSError."""
    text = file.read_text("ascii", "replace")
    try:
        text = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(_CERTIFICATE_END) + len(_CERTIFICATE_END)]
        return ssl.PEM_cert_to_DER_cert(text)
    except ValueError:
        raise ssl.SSLError(f"expected a PEM certificate in {file}") from None


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
