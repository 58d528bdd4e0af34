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
from websockets.exceptions import ConnectionClosed, InvalidStatus
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
    with two_servers(drain_s=30.0) as running:
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
    assert lost == [], "all that was on its way was answered"
    assert (client.moves, client.reconnections) == (3, 0)
    assert client.server_dropped == 0
    for event in events:
        if isinstance(event, FrameResult):
            assert event.result.detections[0].class_id == (event.seq - 1) // 10, "each its own frame's"
    decisions = [event.result.decision for event in events if isinstance(event, FrameResult)]
    assert decisions.count("keyframe") == 4
    wait_until(lambda: len(pair.a.service.streams) == len(pair.b.service.streams) == 0)


def test_what_is_under_way_is_answered_still(pair: TwoServers) -> None:
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
        assert json.loads(socket.recv(10)) == moved_to(pair.b, "busy")
        socket.send(frame(6))  # it has crossed with that
        engine.gate.set()
        said = [json.loads(socket.recv(10)) for _ in range(6)]
        assert [(message["type"], message["seq"]) for message in said] == [("result", seq) for seq in range(1, 7)]
    moving.join(10)
    assert pair.a.service.streams.get("busy") is None
    assert pair.town.holders["busy"] is None, "counted until it comes to the other one"


def made(server: Any, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/v1/streams", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def later(pair: TwoServers) -> Iterator[None]:
    """Streams that come to be counted belong to `b`."""
    pair.a.service.placement.later = "b"
    yield
    pair.a.service.placement.later = None


@pytest.mark.parametrize("through", ["ws_url", "first server"])
def test_a_stream_that_one_server_made_is_opened_at_another(pair: TwoServers, later: None, through: str) -> None:
    stream = made(pair.a, resume_s=17)
    stream_id, token = stream["stream_id"], stream["token"]
    assert (stream["ws_url"], stream["resume_s"]) == (ws_url(pair.b.url, stream_id), 17)
    assert pair.a.service.streams.get(stream_id) is None
    options = StreamOptions(policy=Policy.ALL, token=token, reconnect=Reconnect(attempts=0))
    url = (stream["ws_url"], None) if through == "ws_url" else (pair.a.url, stream_id)
    with StreamClient(*url, options) as client:
        assert told(list(client.stream([image(), image()]))) == ([1, 2], [])
        assert client.moves == (0 if through == "ws_url" else 1)
    here = pair.b.service.streams.get(stream_id)
    assert (here.resume_s, pair.town.holders[stream_id]) == (17, "b")
    assert pair.a.service.streams.get(stream_id) is None


def test_requests_are_sent_to_the_server_that_has_the_stream(pair: TwoServers, later: None) -> None:
    stream = made(pair.a)
    path = f"/v1/streams/{stream['stream_id']}"
    for what in ("", "/snapshot.jpg?width=64&overlay=changes", "/mjpeg"):
        answer = httpx.get(f"{pair.a.url}{path}{what}", headers=bearer(stream["token"]))
        assert (answer.status_code, answer.headers["location"]) == (307, f"{pair.b.url}{path}{what}")
        assert answer.json()["code"] == "elsewhere"
    answer = httpx.post(f"{pair.a.url}{path}/views", headers=bearer(stream["token"]))
    assert (answer.status_code, answer.headers["location"]) == (307, f"{pair.b.url}{path}/views")
    assert httpx.get(pair.b.url + path, headers=bearer(stream["token"])).json()["state"] == "made"
    answer = httpx.delete(pair.a.url + path, headers=bearer(stream["token"]))
    assert (answer.status_code, answer.headers["location"]) == (307, pair.b.url + path)
    assert stream["stream_id"] in pair.town.kept
    assert httpx.delete(answer.headers["location"], headers=bearer(stream["token"])).status_code == 204
    assert stream["stream_id"] not in pair.town.kept
    assert httpx.get(pair.b.url + path).status_code == 404


def test_whoever_has_no_token_is_told_nothing_of_a_stream_that_is_elsewhere(pair: TwoServers, later: None) -> None:
    stream = made(pair.a)
    stream_id = stream["stream_id"]
    for token in (None, "wrong"):
        for server in (pair.a, pair.b):
            with open_raw(server, stream_id, token) as socket:
                code, said = closed(socket)
            assert (code, [message["code"] for message in said]) == (1008, ["unauthorized"])
            answer = httpx.get(f"{server.url}/v1/streams/{stream_id}", headers={} if token is None else bearer(token))
            assert answer.status_code == 401
            assert "location" not in answer.headers
    assert pair.b.service.streams.get(stream_id) is None, "nobody else has it taken up, or takes its name"


def test_an_unknown_stream_with_a_token_is_nobodys(pair: TwoServers) -> None:
    pair.move("nobodys", "b")
    with open_raw(pair.a, "nobodys", "wrong") as socket:
        code, said = closed(socket)
    assert (code, said[0]["code"]) == (1008, "unauthorized")


def test_a_stream_for_which_there_is_room_elsewhere_only(pair: TwoServers, later: None) -> None:
    """Its server says so when it is asked to count it."""
    with StreamClient(pair.a.url, "no-room", ALL) as client:
        assert (client.moves, client.url) == (1, ws_url(pair.b.url, "no-room"))
    assert pair.a.service.streams.get("no-room") is None


def test_limits_are_the_clusters(pair: TwoServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.town, "most", len(pair.town.holders))
    answer = httpx.post(f"{pair.a.url}/v1/streams")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
    with open_raw(pair.a, "one-more") as socket:
        socket.send('{"type":"hello"}')
        code, said = closed(socket)
    assert (code, said[0]["code"]) == (1013, "overloaded")
    assert pair.a.service.streams.get("one-more") is None


def test_a_cluster_that_does_not_answer(pair: TwoServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """New streams are refused for a time; those that are there go on, and may be connected to."""
    monkeypatch.setattr("service.state.ASK_S", 0.05)
    with StreamClient(pair.a.url, "there", ALL) as client:
        monkeypatch.setattr(pair.town, "silent", True)
        assert told(list(client.stream([image()]))) == ([1], [])
        answer = httpx.post(f"{pair.a.url}/v1/streams")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert httpx.get(f"{pair.a.url}/v1/streams/unheard-of").status_code == 503
        with pytest.raises(InvalidStatus) as refused, open_raw(pair.a, "unheard-of"):
            pass
        assert refused.value.response.status_code == 503
        with open_raw(pair.a, "there") as socket:
            socket.send(json.dumps({"type": "hello", "resume": client.ready.resume}))
            assert json.loads(socket.recv(10))["resumed"] is True


def test_what_is_cached_is_resumed_where_it_is(pair: TwoServers) -> None:
    """The client begins again at its first address, and is sent back."""
    pair.move("resumed", "b")
    options = StreamOptions(policy=Policy.ALL, reconnect=Reconnect(attempts=3, initial_s=0.01, maximum_s=0.02))
    with StreamClient(pair.a.url, "resumed", options) as client:
        client.send(image(50))
        assert client.receive(10).result.decision == "keyframe"
        client._socket.socket.shutdown(2)
        seq = client.send(image(50))
        while not isinstance(event := client.receive(10), FrameResult):
            seq = client.send(image(50)) if isinstance(event, FramesLost) else seq
        assert (event.seq, event.result.decision) == (seq, "reuse")
        assert (client.ready.resumed, client.moves, client.reconnections) == (True, 2, 1)


def test_a_stream_that_waits_for_its_client_goes_too(pair: TwoServers) -> None:
    stream = made(pair.a)
    options = StreamOptions(policy=Policy.ALL, token=stream["token"])
    client = StreamClient(stream["ws_url"], None, options)
    client.connect()
    client.close(bye=False)
    kept = pair.a.service.streams.get(stream["stream_id"])
    wait_until(lambda: kept.state == "kept")
    pair.move(stream["stream_id"], "b")
    pair.move_away(pair.a)
    assert pair.a.service.streams.get(stream["stream_id"]) is None
    assert (kept.pipeline, kept.ending) == (None, "moved")
    assert stream["stream_id"] in pair.town.kept
    with StreamClient(stream["ws_url"], None, options) as client:
        assert (client.moves, client.ready.resume_reason) == (1, None)


def test_a_camera_of_the_server_stays(pair: TwoServers) -> None:
    class Camera:
        def brief(self) -> dict[str, Any]:
            return {}

    stream = pair.a.service.streams.create_own("camera", "fake", Camera())
    pair.move("camera", "b")
    pair.move_away(pair.a)
    assert pair.a.service.streams.get("camera") is stream
    pair.a.service.streams.remove(stream)


def test_one_that_was_frozen_as_it_moved_is_cut_off(pair: TwoServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that does not end within the time to drain gets no result, and its client is sent on all the same."""
    impatient = pair.a.service.settings.model_copy(update={"drain_s": 0.1})
    monkeypatch.setattr(pair.a.service, "settings", impatient)
    engine = pair.engines["a"]
    engine.gate.clear()
    with open_raw(pair.a, "frozen") as socket:
        socket.send('{"type":"hello","policy":"all"}')
        assert json.loads(socket.recv(10))["type"] == "ready"
        for seq in (1, 2, 3, 4):
            socket.send(frame(seq))
        wait_until(lambda: len(pair.a.service.streams.get("frozen").lane.pending) == 2)
        pair.move("frozen", "b")
        pair.move_away(pair.a)
        assert closed(socket) == (1012, [moved_to(pair.b, "frozen")])
    assert pair.a.service.streams.get("frozen") is None
    engine.gate.set()


def test_pages_of_the_cluster_may_use_each_of_its_servers(pair: TwoServers, monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"Origin": "http://gate.example"}
    assert httpx.get(f"{pair.a.url}/v1/streams", headers=page).status_code == 403
    monkeypatch.setattr(pair.town, "origins", ("http://gate.example",))
    assert httpx.get(f"{pair.a.url}/v1/streams", headers=page).status_code == 200
    url = ws_url(pair.a.url, "page")
    with raw_connect(url, subprotocols=subprotocols(), compression=None, origin="http://gate.example") as socket:
        socket.send('{"type":"hello"}')
        assert json.loads(socket.recv(10))["type"] == "ready"
    with (
        pytest.raises(InvalidStatus, match="403"),
        raw_connect(url, subprotocols=subprotocols(), compression=None, origin="http://other.example"),
    ):
        pass
