"""Streams that belong to another server, and streams that move while they live: two real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from service_fakes import frame, image, subprotocols, wait_until
from town import TwoServers, two_servers
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as raw_connect

from clients.python import (
    AsyncStreamClient,
    FrameResult,
    FramesLost,
    Reconnect,
    StreamClient,
    StreamOptions,
)
from clients.wire import Policy
from service.placement import Alone, ws_url

ALL = StreamOptions(policy=Policy.ALL, reconnect=Reconnect(attempts=0))
"""A move is no lost connection: it works where none is mended."""


@pytest.fixture(scope="module")
def pair() -> Iterator[TwoServers]:
    with two_servers() as running:
        yield running


def open_raw(server: Any, stream_id: str, token: str | None = None) -> ClientConnection:
    url = f"ws{server.url.removeprefix('http')}/v1/streams/{stream_id}/ws"
    return raw_connect(url, subprotocols=subprotocols(token), compression=None)


def closed(socket: ClientConnection) -> tuple[int, list[dict[str, Any]]]:
    """Read to the end: the close code, and what was said before."""
    said: list[dict[str, Any]] = []
    with pytest.raises(ConnectionClosed) as caught:
        said.extend(json.loads(text) for text in iter(lambda: socket.recv(10), None))
    return caught.value.rcvd.code, said


def moved_to(server: Any, stream_id: str) -> dict[str, Any]:
    return {"type": "moved", "ws_url": f"ws{server.url.removeprefix('http')}/v1/streams/{stream_id}/ws"}


def told(events: list[Any]) -> tuple[list[int], list[int]]:
    """Frames with a result, and frames that were lost, in the order of being told."""
    results = [event.seq for event in events if isinstance(event, FrameResult)]
    return results, [seq for event in events if isinstance(event, FramesLost) for seq in event.seqs]


def test_a_server_that_is_alone_sends_nobody_anywhere() -> None:
    alone = Alone()
    assert (alone.address("door"), list(alone.origins), asyncio.run(alone.find("door"))) == (None, [], None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://10.0.0.7:8001", "ws://10.0.0.7:8001/v1/streams/door/ws"),
        ("https://b.example/", "wss://b.example/v1/streams/door/ws"),
        ("https://http.example/below", "wss://http.example/below/v1/streams/door/ws"),
    ],
)
def test_the_address_of_a_stream(address: str, expected: str) -> None:
    assert ws_url(address, "door") == expected


def test_a_stream_that_belongs_elsewhere_is_sent_there_in_the_place_of_ready(pair: TwoServers) -> None:
    pair.move("sent", "b")
    with open_raw(pair.a, "sent") as socket:
        socket.send('{"type":"hello"}')
        assert closed(socket) == (1012, [moved_to(pair.b, "sent")])
    assert pair.a.service.streams.get("sent") is None
    assert "sent" not in pair.town.holders
    metrics = httpx.get(f"{pair.a.url}/metrics").text
    assert 'afterimage_connections_refused_total{code="moved"} 1.0' in metrics


def test_nobody_is_sent_anywhere_without_a_hello_that_is_valid(pair: TwoServers) -> None:
    pair.move("mute", "b")
    with open_raw(pair.a, "mute") as socket:
        socket.send('{"type":"hello","policy":"newest"}')
        assert json.loads(socket.recv(5))["code"] == "bad_message"
        socket.send(frame(1))
        assert json.loads(socket.recv(5))["code"] == "hello_expected"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_clients_follow(pair: TwoServers, kind: str) -> None:
    name = f"follows-{kind}"
    pair.move(name, "b")

    async def main() -> tuple[list[Any], AsyncStreamClient]:
        async with AsyncStreamClient(pair.a.url, name, ALL) as client:
            return [event async for event in client.stream(image(10 * n) for n in range(1, 6))], client

    if kind == "async":
        events, client = asyncio.run(main())
    else:
        with StreamClient(pair.a.url, name, ALL) as client:
            events = list(client.stream(image(10 * n) for n in range(1, 6)))
    assert told(events) == ([1, 2, 3, 4, 5], [])
    assert (client.moves, client.reconnections) == (1, 0)
    assert client.url == ws_url(pair.b.url, name)
    wait_until(lambda: pair.b.service.streams.get(name) is None)  # bye ended it where it was


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_live_stream_moves_under_load(pair: TwoServers, kind: str) -> None:
    """Each frame has one result or is told as lost, in order; what comes first at the new server is a keyframe."""
    name = f"moves-{kind}"
    steps = {40: "b", 80: "a", 120: "b"}

    def camera() -> Iterator[bytes]:
        for n in range(160):
            if n in steps:
                pair.move(name, steps[n])
                before = pair.a if steps[n] == "b" else pair.b
                threading.Thread(target=pair.move_away, args=(before,)).start()
            yield image(n)

    async def main() -> tuple[list[Any], AsyncStreamClient]:
        async with AsyncStreamClient(pair.a.url, name, ALL) as client:
            return [event async for event in client.stream(camera())], client

    if kind == "async":
        events, client = asyncio.run(main())
    else:
        with StreamClient(pair.a.url, name, ALL) as client:
            events = list(client.stream(camera()))
    results, lost = told(events)
    assert results == sorted(set(results))
    assert sorted(results + lost) == list(range(1, 161)), "each frame is told of once"
    assert len(lost) <= 2 * len(steps), "no more than was on its way at each move"
    assert (client.moves, client.reconnections, client.lost) == (3, 0, len(lost))
    assert client.server_dropped == 0
    for event in events:
        if isinstance(event, FrameResult):
            assert event.result.detections[0].class_id == (event.seq - 1) // 10, "each its own frame's"
    decisions = [event.result.decision for event in events if isinstance(event, FrameResult)]
    assert decisions.count("keyframe") == 4
    wait_until(lambda: len(pair.a.service.streams) == len(pair.b.service.streams) == 0)


def test_what_is_under_way_is_answered_first(pair: TwoServers) -> None:
    engine = pair.engines["a"]
    engine.gate.clear()
    while engine.entered.acquire(blocking=False):
        pass
    with open_raw(pair.a, "busy") as socket:
        socket.send('{"type":"hello","policy":"all"}')
        assert json.loads(socket.recv(10))["type"] == "ready"
        for seq in (1, 2, 3, 4, 5):  # computed, two in the lane, one that waits for room, one that is not read
            socket.send(frame(seq))
        assert engine.entered.acquire(timeout=10)
        wait_until(lambda: len(pair.a.service.streams.get("busy").lane.pending) == 2)
        pair.move("busy", "b")
        moving = threading.Thread(target=pair.move_away, args=(pair.a,))
        moving.start()
        (connection,) = (one for one in pair.a.service.connections if one.stream_id == "busy")
        wait_until(lambda: connection._ending.done())
        engine.gate.set()
        code, said = closed(socket)
        moving.join(10)
    assert code == 1012
    assert said[-1] == moved_to(pair.b, "busy")
    results = [message["seq"] for message in said[:-1] if message["type"] == "result"]
    assert results == [1, 2, 3, 4]
    assert [message for message in said[:-1] if message["type"] != "result"] == []
    assert pair.a.service.streams.get("busy") is None
    assert pair.town.holders["busy"] is None, "counted until it comes to the other one"
