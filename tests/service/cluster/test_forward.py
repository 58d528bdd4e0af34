"""Requests that members pass on, with a member that answers as it is told; whole members are in test_member.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from service_fakes import make_settings
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.cluster.forward import HEADER, MAX_BODY_BYTES, Forward, peers
from service.cluster.messages import Seat
from service.errors import Problem

Answer = Callable[[httpx.Request], httpx.Response]


def world(answer: Answer, home: str | None = "http://other", here: bool = False, pace: Any = None) -> Any:
    """An ASGI app: a member whose streams are elsewhere, and another one that gives the answer."""

    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("here")(scope, receive, send)

    seats = {"0": Seat("a", "http://own", 1.0), "1": Seat("b", "http://other", 1.0)}
    membership = SimpleNamespace(home=lambda stream_id: home, seats=seats)
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    forward = Forward(local, membership, client)  # type: ignore[arg-type]
    service = SimpleNamespace(
        streams=SimpleNamespace(get=lambda stream_id: here or None),
        access=SimpleNamespace(pace=pace or (lambda connection, key: None)),
        settings=make_settings(),
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
        async with httpx.AsyncClient(transport=transport, base_url="http://common") as client:
            return await client.request(method, path, **what)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def known_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cluster.forward.Service", SimpleNamespace)


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
    assert request.headers["host"] == "common", "pages of the common address are the cluster's own"
    assert request.headers[HEADER] == "1"


@pytest.mark.parametrize(
    ("path", "headers", "options"),
    [
        ("/v1/streams/door", {HEADER: "1"}, {}),
        ("/v1/streams/door", {}, {"here": True}),
        ("/v1/streams/door", {}, {"home": None}),
        ("/v1/streams", {HEADER: "1"}, {}),
        ("/v1/models", {}, {}),
        ("/v1/streams/no such id", {}, {}),
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


def test_the_list_is_of_all_members_by_what_each_tells_the_caller() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        return httpx.Response(200, json={"streams": [{"stream_id": request.url.host}]})

    found = ask(world(answer), "GET", "/v1/streams", headers={"authorization": "Bearer t"})
    assert found.json() == {"streams": [{"stream_id": "own"}, {"stream_id": "other"}]}


def test_a_list_that_lacks_a_member_says_so_and_a_refusal_is_one() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        if request.url.host == "other":
            raise httpx.ReadTimeout("silent")
        return httpx.Response(200, json={"streams": []})

    assert ask(world(silent), "GET", "/v1/streams").json() == {"streams": [], "unreachable": ["http://other"]}

    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"code": "forbidden"})

    found = ask(world(refuse), "GET", "/v1/streams")
    assert (found.status_code, found.json()["code"]) == (403, "forbidden")


def test_members_with_a_certificate_are_believed_by_it_alone(tmp_path: Any) -> None:
    with pytest.raises(OSError, match="No such file"):
        peers(tmp_path / "none.pem")
    asyncio.run(peers(None).aclose())
