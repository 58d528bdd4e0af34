"""Requests that members pass on, with a member that answers as it is told; whole members are in test_member.py."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from certificates import Authority
from service_fakes import make_settings
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.access import ANYBODY, peer_of
from service.cluster import mark
from service.cluster.forward import HEADER, MAX_BODY_BYTES, Forward, peers
from service.cluster.membership import THROUGH_GATEWAY
from service.cluster.messages import Seat
from service.errors import Problem
from service.placement import ENDLESS_AT

Answer = Callable[[httpx.Request], httpx.Response]
SECRET = b"of this cluster"
OWN = SimpleNamespace(owner=None, source=None, brief=lambda: {"stream_id": "own"})


def world(
    answer: Answer, home: str | None = "http://other", here: bool = False, pace: Any = None, permit: Any = None
) -> Any:
    """An ASGI app: a member whose streams are elsewhere, and another one that gives the answer.

    What it answers itself is "here", with its peer and where it would send those who want no end.
    """

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"x-peer": peer_of(HTTPConnection(scope)), "x-endless": scope.get(ENDLESS_AT, "")}
        await PlainTextResponse("here", headers=headers)(scope, receive, send)

    seats = {"0": Seat("a", "http://own", 1.0), "1": Seat("b", "http://other", 1.0)}
    membership = SimpleNamespace(
        home=lambda stream_id: home, seats=seats, instance="a", own_address="http://own", secret=SECRET
    )
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    forward = Forward(local, membership, client)  # type: ignore[arg-type]
    service = SimpleNamespace(
        streams=SimpleNamespace(get=lambda stream_id: here or None, all=lambda: [OWN]),
        access=SimpleNamespace(
            pace=pace or (lambda connection, key: None), permit=permit or (lambda *asked: ANYBODY), anonymous=True
        ),
        settings=make_settings(),
        allowed_origins=(),
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = SimpleNamespace(state=SimpleNamespace(service=service))
        try:
            await forward(scope, receive, send)
        finally:
            await client.aclose()

    return app


def ask(app: Any, method: str, path: str, **what: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **what)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def known_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cluster.forward.Service", SimpleNamespace)
    monkeypatch.setattr("service.state.Service", SimpleNamespace)


def test_what_was_asked_and_answered_goes_through_unchanged() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        body = httpx.ByteStream(b"tea")
        return httpx.Response(418, headers={"x-own": "1", "connection": "close"}, stream=body)

    found = ask(
        world(answer), "POST", "/v1/streams/door/views?a=b", headers={"authorization": "Bearer t"}, content=b"{}"
    )
    assert (found.status_code, found.content, found.headers["x-own"]) == (418, b"tea", "1")
    assert "connection" not in found.headers
    (request,) = seen
    assert str(request.url) == "http://other/v1/streams/door/views?a=b"
    assert (request.method, request.content) == ("POST", b"{}")
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["host"] == "127.0.0.1", "pages of the common address are the cluster's own"
    said = request.headers[HEADER]
    assert mark.read(SECRET, "POST", "/v1/streams/door/views", said, time.time()) == "127.0.0.1", "who asks"


@pytest.mark.parametrize(
    ("path", "headers", "options"),
    [
        ("/v1/streams/door", {HEADER: "1"}, {}),
        ("/v1/streams/door", {}, {"here": True}),
        ("/v1/streams/door", {}, {"home": None}),
        ("/v1/streams", {HEADER: "1"}, {}),
        ("/v1/models", {}, {}),
        ("/v1/streams/no such id", {}, {}),
        ("/v1/streams/door/..%2f..%2fmodels/yolo", {}, {}),
        ("/v1/streams/door/%2e%2e/%2e%2e/models/yolo", {}, {}),
        ("/v1/streams/door/mjpeg%00", {}, {}),
        ("/v1/streams/door%00", {}, {}),
        ("/v1/streams/door/views%3fticket=1", {}, {}),
        ("/v1/streams/door%0a", {}, {}),
    ],
)
def test_what_is_answered_here(path: str, headers: dict[str, str], options: dict[str, Any]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nobody else is to be asked")

    assert ask(world(answer, **options), "GET", path, headers=headers).text == "here"


def test_a_member_that_does_not_answer_is_said() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    found = ask(world(answer), "GET", "/v1/streams/door")
    assert (found.status_code, found.json()["code"]) == (503, "overloaded")
    assert "retry-after" in found.headers


def test_bodies_and_rates_are_bounded_before_anything_is_passed_on() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nobody else is to be asked")

    found = ask(world(answer), "POST", "/v1/streams/door/views", content=b" " * (MAX_BODY_BYTES + 1))
    assert found.status_code == 413

    def pace(connection: Request, key: str | None) -> None:
        raise Problem(429, "too_fast", "slower")

    assert ask(world(answer, pace=pace), "GET", "/v1/streams/door").status_code == 429


def nobody(request: httpx.Request) -> httpx.Response:
    raise AssertionError("nobody else is to be asked")


def test_an_address_that_cannot_be_asked_for_is_the_callers_fault() -> None:
    def unusable(request: httpx.Request) -> httpx.Response:
        raise httpx.InvalidURL("no")

    found = ask(world(unusable), "GET", "/v1/streams/door")
    assert (found.status_code, found.json()["code"]) == (400, "bad_http")


def test_a_peer_is_believed_by_a_mark_alone() -> None:
    path = "/v1/streams/door"
    signed = mark.write(SECRET, mark.Passed("GET", path, "192.0.2.7"), time.time())
    forged = mark.write(b"another", mark.Passed("GET", path, "192.0.2.7"), time.time())
    for header, peer in ((signed, "192.0.2.7"), (forged, "127.0.0.1"), ("1", "127.0.0.1")):
        found = ask(world(nobody), "GET", path, headers={HEADER: header})
        assert (found.text, found.headers["x-peer"]) == ("here", peer), "and nothing goes in circles"
    assert ask(world(nobody), "DELETE", path, headers={HEADER: signed}).headers["x-peer"] == "127.0.0.1"


def test_answers_without_an_end_are_fetched_from_the_member_itself() -> None:
    path, header = "/v1/streams/door/mjpeg", {HEADER: "1"}
    token = THROUGH_GATEWAY.set(True)
    try:
        assert ask(world(nobody, here=True), "GET", path).headers["x-endless"] == "http://own"
        assert ask(world(nobody, here=True), "GET", "/v1/streams/door/snapshot.jpg").headers["x-endless"] == ""
    finally:
        THROUGH_GATEWAY.reset(token)
    assert ask(world(nobody), "GET", path, headers=header).headers["x-endless"] == "http://own"
    assert ask(world(nobody, here=True), "GET", path).headers["x-endless"] == "", "who asks the member has it there"


def test_who_may_not_see_the_list_has_nobody_asked() -> None:
    def permit(*asked: Any) -> Any:
        raise Problem(401, "unauthorized", "no key")

    found = ask(world(nobody, permit=permit), "GET", "/v1/streams")
    assert (found.status_code, found.json()["code"]) == (401, "unauthorized")
    found = ask(world(nobody), "GET", "/v1/streams", headers={"origin": "http://elsewhere.example"})
    assert (found.status_code, found.json()["code"]) == (403, "forbidden_origin")


def test_the_list_is_of_all_members_by_what_each_tells_the_caller() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        assert mark.read(SECRET, "GET", "/v1/streams", request.headers[HEADER], time.time()) == "127.0.0.1"
        return httpx.Response(200, json={"streams": [{"stream_id": request.url.host}]})

    found = ask(world(answer), "GET", "/v1/streams", headers={"authorization": "Bearer t"})
    assert found.json() == {"streams": [{"stream_id": "own"}, {"stream_id": "other"}]}


def test_a_list_that_lacks_a_member_says_so_and_a_refusal_is_one() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("silent")

    found = ask(world(silent), "GET", "/v1/streams")
    assert found.json() == {"streams": [{"stream_id": "own"}], "unreachable": ["1"]}, "a slot, and no address"

    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"code": "forbidden"})

    found = ask(world(refuse), "GET", "/v1/streams")
    assert (found.status_code, found.json()["code"]) == (403, "forbidden")


def test_members_with_a_certificate_are_believed_by_it_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        peers(tmp_path / "none.pem")
    (tmp_path / "empty.pem").write_text("no certificate\n")
    with pytest.raises(OSError, match="expected a PEM certificate"):
        peers(tmp_path / "empty.pem")
    asyncio.run(peers(None).aclose())

    authority = Authority()
    pairs = [authority.issue(tmp_path, stem) for stem in ("old", "new", "others")]
    shown = tmp_path / "shown.pem"
    shown.write_bytes(pairs[0][0].read_bytes())

    async def run() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()

        urls = []
        async with contextlib.AsyncExitStack() as stack:
            for pair in pairs:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(*pair)
                server = await stack.enter_async_context(
                    await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
                )
                urls.append(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            old, new, others = urls
            client = await stack.enter_async_context(peers(shown))
            assert (await client.get(old)).status_code == 200, "a leaf without its root"
            for stranger in (new, others):
                with pytest.raises(httpx.ConnectError):
                    await client.get(stranger)
            shown.write_bytes(pairs[1][0].read_bytes())
            assert (await client.get(new)).status_code == 200, "renewed"
            shown.write_text("half of one")
            assert [(await client.get(url)).status_code for url in (old, new)] == [200, 200]
            with pytest.raises(httpx.ConnectError):
                await client.get(others)

    asyncio.run(run())
