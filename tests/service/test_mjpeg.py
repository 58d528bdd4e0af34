"""The endless answer by itself: what is sent, in which order, and how it ends. Over sockets: routes/test_views.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from service.http_guard import ABORT
from service.mjpeg import Mjpeg
from service.pipeline import Found, Outcome
from service.streams import Stream
from service.viewing import Shown, Viewing

PIXELS = np.zeros((2, 2, 3), np.uint8)
OUTCOME = Outcome(2, 2, Found(), "reuse", 0.0, 0, 1, 1, 1, PIXELS)


class Client:
    """Takes what is sent; `gate` holds it, `left` is set when it goes away."""

    def __init__(self) -> None:
        self.board = Viewing(max_viewers=1, max_per_stream=1, keep_bytes=1 << 20, quality=90)
        self.stream = Stream("door", None, None)
        self.sent: list[dict[str, Any]] = []
        self.gate, self.left = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.aborted = False

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    async def send(self, message: Any) -> None:
        await self.gate.wait()
        self.sent.append(message)

    async def receive(self) -> Any:
        if not self.sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    def abort(self) -> None:
        self.aborted = True
        self.left.set()

    async def look(self, **fields: Any) -> None:
        async def draw(shown: Shown) -> bytes:
            return b"picture %d" % shown.number

        made: dict[str, Any] = {"max_fps": 50.0, "idle_s": 10.0, "take_s": 10.0, "headers": {"x": "y"}}
        answer = Mjpeg(self.board.watch(self.stream), draw, **(made | fields))
        await answer({"type": "http", "extensions": {ABORT: self.abort}}, self.receive, self.send)

    def publish(self) -> None:
        self.board.publish(self.stream, PIXELS, OUTCOME)

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            while text not in self.body:
                await asyncio.sleep(0.001)


def test_parts_have_their_sizes_and_the_boundary_follows_at_once() -> None:
    async def run() -> None:
        client = Client()
        looking = asyncio.create_task(client.look())
        client.publish()
        part = (
            b"Content-Type: image/jpeg\r\nContent-Length: 9\r\nX-Afterimage-Seq: 1\r\n\r\npicture 1\r\n--afterimage\r\n"
        )
        await client.until(b"--afterimage\r\n" + part + part)
        start = client.sent[0]
        names = {name for name, _ in start["headers"]}
        assert (start["status"], b"content-length" in names, b"x" in names) == (200, False, True)
        client.publish()
        await client.until(b"picture 2\r\n--afterimage\r\n")
        client.board.forget(client.stream)
        await asyncio.wait_for(looking, 10)
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
        assert client.board.viewers == 0

    asyncio.run(run())


def test_frames_that_come_while_one_is_taken_are_left_out() -> None:
    async def run() -> bytes:
        client = Client()
        looking = asyncio.create_task(client.look())
        client.publish()
        await client.until(b"picture 1")
        client.gate.clear()
        for _ in range(5):
            client.publish()
        await asyncio.sleep(0.2)
        client.gate.set()
        await client.until(b"picture 6")
        client.left.set()
        await asyncio.wait_for(looking, 10)
        return client.body

    body = asyncio.run(run())
    assert not any(b"picture %d" % number in body for number in (3, 4, 5)), body


@pytest.mark.parametrize("extensions", [True, False])
def test_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch, extensions: bool) -> None:
    async def run() -> Client:
        client = Client()
        if not extensions:
            monkeypatch.setattr("service.mjpeg.ABORT", "nothing that this server has")
        looking = asyncio.create_task(client.look(take_s=0.05))
        client.publish()
        await client.until(b"picture 1")
        client.gate.clear()
        await asyncio.wait_for(looking, 10)
        return client

    client = asyncio.run(run())
    assert client.aborted == extensions
    assert client.board.viewers == 0


def test_it_ends_without_frames_and_when_the_client_leaves() -> None:
    async def run() -> None:
        idle = Client()
        await asyncio.wait_for(idle.look(idle_s=0.01), 10)
        assert idle.sent[-1]["more_body"] is False
        gone = Client()
        looking = asyncio.create_task(gone.look())
        await gone.until(b"--afterimage")
        gone.left.set()
        await asyncio.wait_for(looking, 10)
        assert gone.board.viewers == 0

    asyncio.run(run())


def test_what_goes_wrong_before_and_while_drawing_is_raised() -> None:
    @contextmanager
    def refused() -> Iterator[Any]:
        raise LookupError("no room")
        yield

    async def draw(shown: Shown) -> bytes:
        raise ZeroDivisionError("of the drawing")

    async def run() -> None:
        client = Client()
        options: dict[str, Any] = {"max_fps": 50.0, "idle_s": 10.0, "take_s": 10.0, "headers": {}}
        with pytest.raises(LookupError, match="no room"):
            await Mjpeg(refused(), draw, **options)({"type": "http"}, client.receive, client.send)
        assert client.sent == []
        client.publish()
        watching = client.board.watch(client.stream)
        with pytest.raises(ZeroDivisionError, match="of the drawing"):
            await Mjpeg(watching, draw, **options)({"type": "http"}, client.receive, client.send)
        assert client.board.viewers == 0

    asyncio.run(run())
