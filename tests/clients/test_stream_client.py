"""Both clients against a real server on loopback (the engine is a stand-in)."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from service_fakes import (
    FakeEngine,
    RunningServer,
    frame,
    image,
    make_registry,
    make_settings,
    running_server,
    subprotocols,
    wait_until,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as raw_connect

from clients.python import (
    AsyncStreamClient,
    ClientClosed,
    ConnectionFailed,
    FrameRefused,
    FrameResult,
    FramesLost,
    Reconnect,
    Refused,
    StreamClient,
    StreamOptions,
)
from clients.wire import Encoding, Policy, WireError

QUICK = Reconnect(attempts=20, initial_s=0.02, maximum_s=0.1)
ALL = StreamOptions(policy=Policy.ALL, reconnect=QUICK)


def levels(events: list) -> list[int]:
    return [event.result.detections[0].class_id for event in events if isinstance(event, FrameResult)]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_sync_streams_every_frame(server: RunningServer, encoding: Encoding) -> None:
    options = StreamOptions(policy=Policy.ALL, encoding=encoding)
    with StreamClient(server.url, "door", options) as client:
        assert client.ready is not None
        assert client.ready.window == 2
        events = list(client.stream(image(10 * n) for n in range(1, 21)))
        assert (client.unacked, client.credits, client.skipped) == (0, 2, 0)
    assert levels(events) == list(range(1, 21))
    assert [event.seq for event in events] == list(range(1, 21))
    assert all(0 < event.round_trip_ms < 10_000 for event in events)
    assert server.service.streams.get("door") is None, "bye frees an anonymous stream"


@pytest.mark.parametrize("encoding", list(Encoding))
def test_async_streams_every_frame(server: RunningServer, encoding: Encoding) -> None:
    async def main() -> list:
        options = StreamOptions(policy=Policy.ALL, encoding=encoding, annotated=True)
        async with AsyncStreamClient(server.url, "door", options) as client:
            return [event async for event in client.stream(image(10 * n) for n in range(1, 21))]

    events = asyncio.run(main())
    assert levels(events) == list(range(1, 21))
    assert all(event.annotated.startswith(b"\xff\xd8") for event in events)
    assert server.service.streams.get("door") is None


def test_async_send_and_iterate(server: RunningServer) -> None:
    async def main() -> None:
        async with AsyncStreamClient(server.url, "door", ALL) as client:
            assert await client.send(image(50), capture_ts_us=123) == 1
            event = await anext(client)
            assert isinstance(event, FrameResult)
            assert (event.seq, event.result.capture_ts_us) == (1, 123)
            assert await client.send(image(50), reset=True) == 2
            assert (await anext(client)).result.decision == "keyframe"
        with pytest.raises(StopAsyncIteration):
            await anext(client)
        with pytest.raises(ClientClosed):
            await client.send(image(50))

    asyncio.run(main())


def test_a_live_source_skips_frames_that_find_no_credit(server: RunningServer, engine: FakeEngine) -> None:
    engine.push_s = 0.02

    def camera():
        for n in range(60):
            time.sleep(0.002)
            yield image(4 * n)

    with StreamClient(server.url, "cam") as client:
        events = list(client.stream(camera()))
        assert client.skipped + len(events) == 60
        assert 2 <= len(events) < 40
        assert client.server_dropped == 0, "a client that keeps to its credits never makes the server drop"


def test_async_live_source_skips_too(server: RunningServer, engine: FakeEngine) -> None:
    engine.push_s = 0.02

    async def camera():
        for n in range(60):
            await asyncio.sleep(0.002)
            yield image(4 * n)

    async def main() -> None:
        async with AsyncStreamClient(server.url, "cam") as client:
            events = [event async for event in client.stream(camera())]
            assert client.skipped + len(events) == 60
            assert 2 <= len(events) < 40

    asyncio.run(main())


def test_a_refused_frame_is_an_event_and_the_stream_lives(server: RunningServer) -> None:
    with StreamClient(server.url, "door", ALL) as client:
        events = list(client.stream([image(10), image(20)[:-30], image(30)]))
        assert levels(events) == [1, 3]
        (refused,) = [event for event in events if isinstance(event, FrameRefused)]
        assert (refused.seq, refused.code) == (2, "incomplete_image")


def test_too_large_a_frame_never_leaves(server: RunningServer) -> None:
    with StreamClient(server.url, "door", ALL) as client, pytest.raises(WireError, match="at most"):
        client.send(b"\xff\xd8" + bytes(9 << 20) + b"\xff\xd9")


def test_refusals_are_final_and_plain(server: RunningServer) -> None:
    options = StreamOptions(model="nope", reconnect=QUICK)
    with pytest.raises(Refused, match="unknown_model: unknown model 'nope'") as caught:
        StreamClient(server.url, "door", options).connect()
    assert caught.value.close_code == 1008
    with pytest.raises(Refused, match="unknown_model"):
        asyncio.run(AsyncStreamClient(server.url, "door", options).connect())
    with pytest.raises(Refused, match="unauthorized"):
        StreamClient(server.url, "door", StreamOptions(token="wrong")).connect()
    with pytest.raises(Refused, match="404"):
        StreamClient(server.url, "no such name").connect()
    assert "wrong" not in repr(StreamOptions(token="wrong"))


def test_no_server_is_a_plain_error() -> None:
    quick = StreamOptions(reconnect=Reconnect(attempts=2, initial_s=0.01, maximum_s=0.02))
    with pytest.raises(ConnectionFailed, match="after 3 attempts"):
        StreamClient("http://127.0.0.1:9", "door", quick).connect()
    with pytest.raises(ConnectionFailed, match="after 3 attempts"):
        asyncio.run(AsyncStreamClient("http://127.0.0.1:9", "door", quick).connect())


def cut(server: RunningServer) -> None:
    """Break every connection of the server, as a network does."""
    done = threading.Event()

    def abort() -> None:
        for connection in list(server.server.server_state.connections):
            connection.transport.abort()
        done.set()

    stream = next(iter(server.service.connections))
    stream._loop.call_soon_threadsafe(abort)
    assert done.wait(5)


def test_sync_reconnects_and_resumes(server: RunningServer, engine: FakeEngine) -> None:
    with StreamClient(server.url, "door", ALL) as client:
        client.send(image(50))
        assert isinstance(client.receive(), FrameResult)
        cut(server)
        wait_until(lambda: server.service.streams.get("door").attachment is None)
        client.send(image(50))
        events = [client.receive()]
        while isinstance(events[-1], FramesLost):
            client.send(image(50))
            events.append(client.receive())
        assert client.ready.resumed is True
        assert events[-1].result.decision == "reuse", "the cache outlived the connection"
        assert client.reconnections >= 1
    assert len(engine.sessions) == 1


def test_async_reports_lost_frames_and_goes_on(server: RunningServer, engine: FakeEngine) -> None:
    async def main() -> None:
        async with AsyncStreamClient(server.url, "door", ALL) as client:
            engine.gate.clear()
            await client.send(image(50))
            await asyncio.to_thread(engine.entered.acquire)
            await asyncio.to_thread(cut, server)
            assert await anext(client) == FramesLost((1,))
            engine.gate.set()
            await client.send(image(50))
            event = await anext(client)
            assert isinstance(event, FrameResult)
            assert (event.seq, client.ready.resumed) == (2, True)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_restarted_server_is_found_again(engine: FakeEngine, kind: str) -> None:
    """Drained with 1012 and started anew on the same port: the client goes on, with a keyframe."""
    registry, settings = make_registry(engine.model()), make_settings(retry_after_ms=50)
    started, stops = threading.Event(), (threading.Event(), threading.Event())
    ports: list[int] = []

    def life() -> None:
        with running_server(registry, settings) as first:
            ports.append(first.port)
            started.set()
            stops[0].wait(20)
            started.clear()
        with running_server(registry, settings, ports[0]):
            started.set()
            stops[1].wait(20)

    thread = threading.Thread(target=life)
    thread.start()
    try:
        assert started.wait(10)
        url = f"http://127.0.0.1:{ports[0]}"
        restart = lambda: (stops[0].set(), wait_until(lambda: len(engine.sessions) >= 4))  # noqa: E731
        decisions = _restart_sync(url, restart) if kind == "sync" else asyncio.run(_restart_async(url, restart))
        assert decisions == ["keyframe", "keyframe"]
    finally:
        for stop in stops:
            stop.set()
        thread.join(20)
    assert not thread.is_alive()


def _restart_sync(url: str, restart) -> list[str]:
    with StreamClient(url, "door", ALL) as client:
        client.send(image(50))
        first = client.receive()
        restart()
        client.send(image(50))
        second = client.receive()
        while isinstance(second, FramesLost):
            client.send(image(50))
            second = client.receive()
        return [first.result.decision, second.result.decision]


async def _restart_async(url: str, restart) -> list[str]:
    async with AsyncStreamClient(url, "door", ALL) as client:
        await client.send(image(50))
        first = await anext(client)
        await asyncio.to_thread(restart)
        await client.send(image(50))
        second = await anext(client)
        while isinstance(second, FramesLost):
            await client.send(image(50))
            second = await anext(client)
        return [first.result.decision, second.result.decision]


def test_a_client_that_never_reads_is_bounded_and_slows_nobody(server: RunningServer, engine: FakeEngine) -> None:
    """It floods frames and reads nothing: what waits stays bounded, and another stream goes on."""
    url = f"ws://127.0.0.1:{server.port}/v1/streams/deaf/ws"
    with raw_connect(url, subprotocols=subprotocols(), compression=None, max_queue=1) as deaf:
        deaf.send('{"type":"hello","outputs":["detections","annotated"]}')
        stop = threading.Event()

        def flood() -> None:
            seq = 0
            with suppress(ConnectionClosed):
                while not stop.is_set():
                    seq += 1
                    deaf.send(frame(seq, seq % 250, size=(640, 480)))

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        with StreamClient(server.url, "polite", ALL) as client:
            for _ in range(60):
                client.send(image(50))
                assert isinstance(client.receive(5.0), FrameResult)
            (connection,) = [c for c in server.service.connections if c.stream_id == "deaf"]
            assert len(connection._outbox) <= server.service.settings.outbox_messages + 4
            assert len(connection._stream.lane.pending) <= 2  # one more where the first is about to be taken
            assert connection._protocol.unsettled <= 2
        stop.set()
        deaf.socket.shutdown(2)
        thread.join(5)


def greys(*levels: int) -> list[np.ndarray]:
    """Frames of the model's own size, of which the upper left corner changes and the rest takes many bytes."""
    rest, frames = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), []
    for level in levels:
        frame = rest.copy()
        frame[:16, :16] = level
        frames.append(frame)
    return frames


def test_sync_sends_only_the_tiles_that_changed(server: RunningServer, engine: FakeEngine) -> None:
    options = StreamOptions(policy=Policy.ALL, tiles=True, reconnect=QUICK)
    with StreamClient(server.url, "door", options) as client:
        events = []
        for frame in greys(100, 100, 200, 200, 50):
            client.send_image(frame)
            events.append(client.receive(10))
        assert levels(events) == [10, 10, 20, 20, 5]
        assert [event.result.changed_tiles for event in events] == [48, 0, 4, 0, 4]
        assert engine.sessions[-1].hints == [None, 0, 4, 0, 4]
        assert client.bytes_sent < 8000, "one whole frame, and two tiles"


def test_async_sends_only_the_tiles_that_changed(server: RunningServer, engine: FakeEngine) -> None:
    async def main() -> list:
        options = StreamOptions(policy=Policy.ALL, tiles=True)
        async with AsyncStreamClient(server.url, "door", options) as client:
            events = []
            for frame in greys(100, 200, 50):
                await client.send_image(frame)
                events.append(await anext(client))
            return events

    assert levels(asyncio.run(main())) == [10, 20, 5]
    assert engine.sessions[-1].hints == [None, 4, 4]


def test_a_failed_frame_and_a_lost_connection_cost_one_whole_frame_each(
    server: RunningServer, engine: FakeEngine
) -> None:
    options = StreamOptions(policy=Policy.ALL, tiles=True, reconnect=QUICK)
    with StreamClient(server.url, "door", options) as client:
        frames = greys(100, 200, 50, 150, 250, 30)
        client.send_image(frames[0])
        assert levels([client.receive(10)]) == [10]
        engine.failures.append(RuntimeError("broken"))
        client.send_image(frames[1])
        assert isinstance(client.receive(10), FrameRefused)
        client.send_image(frames[2])
        client.send_image(frames[3])
        assert levels([client.receive(10), client.receive(10)]) == [5, 15]
        server.service.streams.get("door").attachment.end(1011, "test")
        wait_until(lambda: server.service.streams.get("door").attachment is None)
        client.send_image(frames[4])
        event = client.receive(10)
        if isinstance(event, FramesLost):  # it was on its way as the connection ended
            client.send_image(frames[4])
            event = client.receive(10)
        client.send_image(frames[5])
        assert levels([event, client.receive(10)]) == [25, 3]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tls_needs_no_options(kind: str) -> None:
    """Nobody listens there; it gets as far as to find that out."""
    options = StreamOptions(reconnect=Reconnect(attempts=0))
    url = "https://127.0.0.1:2"

    def connect() -> None:
        if kind == "sync":
            StreamClient(url, "door", options).connect()
        else:
            asyncio.run(AsyncStreamClient(url, "door", options).connect())

    with pytest.raises(ConnectionFailed) as caught:
        connect()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
