"""Bodies: refused by their head where that is enough, bounded while they come, cut off where they are slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.body_guard import COPIES, BodyGuard, BodyLimits, BodyRefused
from service.room import LEFT_BYTES, Room

LIMITS = BodyLimits(max_bytes=100, timeout_s=0.05, min_rate=1 << 30)


def ask(
    receive: Callable[[], Any], limits: BodyLimits = LIMITS, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> tuple[bytes, list[dict]]:
    """The body that an app behind the guard has read, and what the guard has sent by itself."""
    read, sent = bytearray(), []

    async def app(scope, receive, send) -> None:
        while True:
            message = await receive()
            read.extend(message.get("body", b""))
            if not message.get("more_body"):
                return

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/detect", "headers": list(headers)}
    asyncio.run(BodyGuard(app, limits)(scope, receive, send))
    return bytes(read), sent


def parts(*bodies: bytes, every_s: float = 0.0) -> Callable[[], Any]:
    left = list(bodies)

    async def receive() -> dict:
        await asyncio.sleep(every_s)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


async def never() -> dict:
    return await asyncio.Event().wait()  # type: ignore[return-value]


def test_a_body_passes() -> None:
    assert ask(parts(b"a" * 60, b"b" * 40)) == (b"a" * 60 + b"b" * 40, [])
    assert ask(parts(b"")) == (b"", [])


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ((b"content-length", b"101"), 413, b"too_large"),
        ((b"content-length", b"9" * 5000), 413, b"too_large"),
        ((b"content-encoding", b"gzip"), 415, b"encoded_body"),
        ((b"content-encoding", b"Br"), 415, b"encoded_body"),
    ],
)
def test_refused_by_the_head_and_never_read(header: tuple[bytes, bytes], status: int, code: bytes) -> None:
    async def unread() -> dict:
        raise AssertionError("the body was read")

    read, (start, body) = ask(unread, headers=(header,))
    assert (read, start["status"], (b"connection", b"close") in start["headers"]) == (b"", status, True)
    assert code in body["body"]


def test_identity_is_no_encoding() -> None:
    assert ask(parts(b"a"), headers=((b"content-encoding", b"identity"), (b"content-length", b"100")))[0] == b"a"


def test_a_body_that_grows_too_large_is_cut() -> None:
    with pytest.raises(BodyRefused) as caught:
        ask(parts(*[b"a" * 30] * 5))
    assert (caught.value.status_code, caught.value.code) == (413, "too_large")


def test_a_body_that_never_comes_is_not_waited_for() -> None:
    with pytest.raises(BodyRefused) as caught:
        ask(never)
    assert (caught.value.status_code, caught.value.code) == (408, "body_too_slow")


def test_a_body_that_trickles_is_cut() -> None:
    with pytest.raises(BodyRefused, match="expected a body within"):
        ask(parts(*[b"a"] * 50, every_s=0.01))


def test_a_body_at_the_least_rate_may_take_its_time() -> None:
    slow = BodyLimits(max_bytes=100, timeout_s=0.05, min_rate=10)
    assert len(ask(parts(*[b"a"] * 15, every_s=0.01), slow)[0]) == 15


def test_only_waiting_counts() -> None:
    async def app(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            await asyncio.sleep(0.04)

    asyncio.run(
        BodyGuard(app, LIMITS)({"type": "http", "path": "/v1/detect", "headers": []}, parts(*[b"a"] * 5), never)
    )


def test_after_the_body_waiting_for_the_client_to_leave_is_not_bounded() -> None:
    async def app(scope, receive, send) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.2)

    calls = 0

    async def receive() -> dict:
        nonlocal calls
        calls += 1
        return {"type": "http.request", "body": b"", "more_body": False} if calls == 1 else await never()

    asyncio.run(BodyGuard(app, LIMITS)({"type": "http", "path": "/v1/detect", "headers": []}, receive, never))


def test_websockets_pass() -> None:
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append(receive)

    asyncio.run(BodyGuard(app, LIMITS)({"type": "websocket"}, never, never))
    assert seen == [never]


def test_routes_answer_with_problem_documents(make_client) -> None:
    client = make_client(max_message_bytes=2048)
    large = client.post("/v1/streams", content=b"[" * 4096, headers={"content-type": "application/json"})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    unknown = client.post(
        "/v1/streams", content=(b"[" * 500 for _ in range(9)), headers={"content-type": "application/json"}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (413, "too_large")
    packed = client.post("/v1/detect", content=b"x", headers={"content-type": "image/jpeg", "content-encoding": "gzip"})
    assert (packed.status_code, packed.json()["code"]) == (415, "encoded_body")


LARGE = BodyLimits(max_bytes=8 << 20, timeout_s=5.0, min_rate=1)


MIB = 1 << 20
ROOM_BYTES = 2 * COPIES * LARGE.max_bytes
"""For one such body: half is for others."""


def ask_in(
    room: Room, receive: Callable[[], Any], *headers: tuple[bytes, bytes]
) -> tuple[list[str | None], list[dict]]:
    """Why there was no room for another body, before the first part and after each; what the guard has sent."""
    sent: list[dict] = []
    seen: list[str | None] = []

    async def app(scope, receive, send) -> None:
        more = True
        while more:
            seen.append(room.lacks_body(ROOM_BYTES // 2))
            more = (await receive()).get("more_body", False)
        seen.append(room.lacks_body(ROOM_BYTES // 2))

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/detect", "headers": list(headers)}
    asyncio.run(BodyGuard(app, LARGE, room)(scope, receive, send))
    return seen, sent


LENGTH = (b"content-length", b"8388608")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize("header", [LENGTH, CHUNKED])
def test_a_body_takes_what_has_come_until_it_is_there(header: tuple[bytes, bytes]) -> None:
    room = Room(lambda: LEFT_BYTES + ROOM_BYTES)
    seen, sent = ask_in(room, parts(b"a" * (MIB - 1), b"b", b"c" * (3 * MIB), b"d"), header)
    left = [None if reason is None else reason.partition(", ")[2] for reason in seen]
    assert left == [None, None, "14 MiB are left for bodies", "8 MiB are left for bodies", None]
    assert sent == []


def test_what_is_announced_and_does_not_come_takes_no_memory() -> None:
    """A dozen connections that need no key and send nothing."""
    room = Room(lambda: LEFT_BYTES + ROOM_BYTES)

    async def app(scope, receive, send) -> None:
        await receive()

    async def all_at_once() -> None:
        guard, scope = BodyGuard(app, LARGE, room), {"type": "http", "path": "/v1/join", "headers": [LENGTH]}
        waiting = [asyncio.create_task(guard(scope, never, never)) for _ in range(12)]
        await asyncio.sleep(0)
        assert room.lacks(ROOM_BYTES, "an image") is None
        for task in waiting:
            task.cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in done)

    asyncio.run(all_at_once())


def test_bodies_that_do_come_leave_half_to_frames() -> None:
    room = Room(lambda: LEFT_BYTES + ROOM_BYTES)
    refused: list[BodyRefused] = []

    def endless() -> Callable[[], Any]:
        left = 7

        async def receive() -> dict:
            nonlocal left
            left -= 1
            return {"type": "http.request", "body": b"a" * MIB, "more_body": True} if left else await never()

        return receive

    async def app(scope, receive, send) -> None:
        try:
            while True:
                await receive()
        except BodyRefused as error:
            refused.append(error)

    async def all_at_once() -> None:
        guard, scope = BodyGuard(app, LARGE, room), {"type": "http", "path": "/v1/join", "headers": [CHUNKED]}
        waiting = [asyncio.create_task(guard(scope, endless(), never)) for _ in range(4)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert room.lacks(ROOM_BYTES // 2, "an image") is None
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(all_at_once())
    assert {(error.status_code, error.code) for error in refused} == {(503, "overloaded")}
    assert room.lacks(ROOM_BYTES, "an image") is None, "all is given back"


def test_a_body_for_which_there_is_no_memory_is_not_begun() -> None:
    room = Room(lambda: LEFT_BYTES + ROOM_BYTES - 1)
    seen, sent = ask_in(room, never, LENGTH)
    assert seen == []
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert b"expected 16 MiB of memory for the body of a request, 15 MiB are left for bodies" in sent[1]["body"]


def test_small_bodies_are_read_all_the_same() -> None:
    seen, sent = ask_in(Room(lambda: 0), parts(b"a", b"b"), (b"content-length", b"2"))
    assert (len(seen), sent) == (3, [])
