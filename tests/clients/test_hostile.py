"""Both clients against a server that does what no server should; the table of scenarios says what must come of each."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import hostile_scenarios
import pytest
from hostile_scenarios import SCENARIOS, Scenario
from hostile_server import JPEG, RunningHostileServer, hostile_server
from service_fakes import wait_until
from websockets.frames import Frame, Opcode

from clients.python import (
    AsyncStreamClient,
    ClientError,
    ConnectionFailed,
    FrameRefused,
    FrameResult,
    FramesLost,
    Reconnect,
    Refused,
    ServerMisbehaved,
    StreamClient,
    StreamOptions,
    core,
    sync,
)
from clients.wire import Policy, Ready
from service.lan.certificate import kept_identity, server_context

FRAMES = 4
"""Frames of a scenario that works."""
MOST_FRAMES = 400
"""Frames after which a client should have come to an end, or back."""
QUICK = [name for name, row in SCENARIOS.items() if not row.slow]
SLOW = [name for name, row in SCENARIOS.items() if row.slow]
ENDS = {"misbehaved": ServerMisbehaved, "refused": Refused, "gives_up": ConnectionFailed}


@dataclass
class Story:
    """What a client told of one scenario."""

    events: list[Any] = field(default_factory=list)
    error: ClientError | None = None
    reconnections: int = 0
    moves: int = 0
    readies: list[Ready] = field(default_factory=list)
    back: bool = False
    """Whether a result came after a reconnection."""

    def tell(self, client: StreamClient | AsyncStreamClient, event: Any) -> None:
        self.events.append(event)
        if client.ready not in self.readies:
            self.readies.append(client.ready)
        self.back = self.back or (isinstance(event, FrameResult) and client.reconnections > 0)


def options(name: str, **changes: Any) -> StreamOptions:
    row = SCENARIOS[name.split("-")[0]]
    limits = {"open_timeout_s": 0.4, "ready_timeout_s": 0.4, "ack_timeout_s": 0.4} if row.slow else {}
    attempts = 1 if row.then == "gives_up" else 6
    fields = {
        "policy": Policy.ALL, "annotated": row.annotated, "token": "s3cret" if name.startswith("echoes") else None,
        "reconnect": Reconnect(attempts, initial_s=0.01, maximum_s=5.0, asked_s=0.1), **limits, **changes,
    }  # fmt: skip
    return StreamOptions(**fields)


def frames(row: Scenario, story: Story, image: bytes = JPEG) -> Iterator[bytes]:
    for n in range(FRAMES if row.then in ("works", "follows") else MOST_FRAMES):
        if row.then == "back" and story.back and n >= FRAMES:
            return
        yield image


def play_sync(server: RunningHostileServer, name: str, image: bytes = JPEG, **changes: Any) -> Story:
    story = Story()
    client = StreamClient(server.url, name, options(name, **changes))
    try:
        with client:
            for event in client.stream(frames(SCENARIOS[name.split("-")[0]], story, image)):
                story.tell(client, event)
    except ClientError as error:
        story.error = error
    story.reconnections, story.moves = client.reconnections, client.moves
    return story


async def play_async(server: RunningHostileServer, name: str, image: bytes = JPEG, **changes: Any) -> Story:
    story = Story()
    client = AsyncStreamClient(server.url, name, options(name, **changes))
    try:
        async with client:
            async for event in client.stream(_slowly(frames(SCENARIOS[name.split("-")[0]], story, image))):
                story.tell(client, event)
    except ClientError as error:
        story.error = error
        await client.close()
    story.reconnections, story.moves = client.reconnections, client.moves
    return story


async def _slowly(images: Iterable[bytes]) -> AsyncIterator[bytes]:
    for image in images:
        yield image
        await asyncio.sleep(0)


def play(kind: str, server: RunningHostileServer, name: str, image: bytes = JPEG, **changes: Any) -> Story:
    if kind == "sync":
        return play_sync(server, name, image, **changes)
    return asyncio.run(play_async(server, name, image, **changes))


def check(server: RunningHostileServer, name: str, story: Story) -> None:
    row, facts = SCENARIOS[name.split("-")[0]], server.facts[name]
    told = {type(event) for event in story.events}
    results = [event.seq for event in story.events if isinstance(event, FrameResult)]
    assert results == sorted(set(results)), "results come in order, none twice"
    if row.then == "works":
        assert (story.error, results, told) == (None, [1, 2, 3, 4], {FrameResult})
        assert (story.reconnections, facts.connections) == (0, 1)
        return
    if row.then == "follows":
        lost = [seq for event in story.events if isinstance(event, FramesLost) for seq in event.seqs]
        assert (story.error, sorted(results + lost)) == (None, [1, 2, 3, 4]), "each frame is told of once"
        assert results[-1] == 4
        assert told <= {FrameResult, FramesLost}
        assert story.reconnections + story.moves == facts.connections - 1
        if not name.startswith("moves_before_hello"):  # may be found gone by the hello, before what was said is read
            assert (story.reconnections, story.moves >= 1) == (0, True)
        return
    if row.then == "back":
        assert story.error is None
        assert story.back
        assert story.reconnections >= 1
        assert told <= {FrameResult, FramesLost, FrameRefused}
        return
    assert type(story.error) is ENDS[row.then], story.error
    assert facts.connections == (2 * row.connections if row.then == "gives_up" else 1)
    if row.code is not None:
        assert row.code in (story.error.close_code, int(story.error.code) if story.error.code.isdigit() else None)
    if not row.slow and not name.startswith(("huge", "endless")):  # these find out late that nobody reads
        wait_until(lambda: facts.open == 0)  # the client has let go of the connection


@pytest.fixture(scope="module")
def server() -> Iterator[RunningHostileServer]:
    with hostile_server() as running:
        yield running


@pytest.mark.parametrize("name", QUICK)
def test_sync(server: RunningHostileServer, name: str) -> None:
    check(server, f"{name}-sync", play("sync", server, f"{name}-sync"))


@pytest.mark.parametrize("name", QUICK)
def test_async(server: RunningHostileServer, name: str) -> None:
    check(server, f"{name}-async", play("async", server, f"{name}-async"))


def test_sync_where_a_timeout_must_run_out(server: RunningHostileServer) -> None:
    with ThreadPoolExecutor(len(SLOW)) as pool:
        for name, story in zip(SLOW, pool.map(lambda name: play("sync", server, f"{name}-sync"), SLOW), strict=True):
            check(server, f"{name}-sync", story)


def test_async_where_a_timeout_must_run_out(server: RunningHostileServer) -> None:
    async def main() -> list[Story]:
        return await asyncio.gather(*(play_async(server, f"{name}-async") for name in SLOW))

    for name, story in zip(SLOW, asyncio.run(main()), strict=True):
        check(server, f"{name}-async", story)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_frame_too_large_for_what_the_network_holds_back(server: RunningHostileServer, kind: str) -> None:
    """Nobody reads, buffers are full, and `send` itself stands still: that ends too."""
    name = f"stops_reading-large-{kind}"
    image = b"\xff\xd8" + bytes(16 << 20) + b"\xff\xd9"
    story = play(kind, server, name, image, ack_timeout_s=1.0, open_timeout_s=5.0, ready_timeout_s=5.0)
    check(server, name, story)
    assert any(isinstance(event, FramesLost) for event in story.events)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_connection_that_breaks_while_nothing_is_due_is_noticed_by_pings(
    server: RunningHostileServer, kind: str
) -> None:
    name = f"stops_reading-idle-{kind}"

    async def main() -> None:
        async with AsyncStreamClient(server.url, name, options(name, ping_s=0.2)) as client:
            while client.reconnections == 0:
                await asyncio.sleep(0.01)
            await client.connect()

    if kind == "async":
        asyncio.run(asyncio.wait_for(main(), 30))
    else:
        with StreamClient(server.url, name, options(name, ping_s=0.2)) as client:
            while client.reconnections == 0:
                client.receive(0.05)
            client.connect()
    assert server.facts[name].connections == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_client_resumes_with(server: RunningHostileServer, kind: str) -> None:
    story = play(kind, server, f"resumes-{kind}-again")
    assert [hello["resume"] for hello in server.facts[f"resumes-{kind}-again"].hellos] == [None, "token1"]
    assert story.readies[-1].resumed is True
    story = play(kind, server, f"refuses_resume-{kind}-again")
    assert (story.readies[-1].resumed, story.readies[-1].resume_reason) == (False, "unknown")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_server_that_is_away_for_a_time(kind: str) -> None:
    patient = Reconnect(attempts=200, initial_s=0.02, maximum_s=0.05)
    left = []

    def camera(client: StreamClient | AsyncStreamClient, server: RunningHostileServer) -> Iterator[bytes]:
        for n in range(8):
            if n == 4:
                server.leave(0.3)
                left.append(n)
            yield JPEG

    async def main(server: RunningHostileServer) -> tuple[list[Any], int]:
        async with AsyncStreamClient(server.url, "works", options("works", reconnect=patient)) as client:
            return [event async for event in client.stream(camera(client, server))], client.reconnections

    with hostile_server() as server:
        if kind == "async":
            events, reconnections = asyncio.run(main(server))
        else:
            with StreamClient(server.url, "works", options("works", reconnect=patient)) as client:
                events = list(client.stream(camera(client, server)))
                reconnections = client.reconnections
    settled = [event.seq for event in events if isinstance(event, FrameResult)]
    lost = [seq for event in events if isinstance(event, FramesLost) for seq in event.seqs]
    assert left
    assert reconnections >= 1
    assert sorted(settled + lost) == list(range(1, 9)), "each frame is told of once"
    assert settled[-1] == 8


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", ["huge_message", "endless_message", "floods_errors"])
def test_memory_is_bounded(server: RunningHostileServer, kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_SERVER_MESSAGE_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        story = play(kind, server, f"{name}-{kind}-memory")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(story.error, ServerMisbehaved)
    assert peak < 24 << 20


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_the_server_says_is_never_the_token(server: RunningHostileServer, kind: str) -> None:
    story = play(kind, server, f"echoes_the_token-{kind}-again")
    assert "another one" in str(story.error)
    assert "s3cret" not in repr(story.error)
    assert "czNjcmV0" not in repr(story.error), "nor its base64"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_was_said_before_the_end_is_read_though_a_frame_found_the_connection_closed(
    server: RunningHostileServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says moved and closes after the client has looked for messages, and before its next frame goes out."""
    name, sent, numbered = f"moves_under_a_frame-{kind}-closed", [], threading.Event()
    number, moves = core.ClientCore.frame, hostile_scenarios._moves

    def late(self: core.ClientCore, image: bytes, capture_ts_us: int | None, reset: bool) -> tuple[int, bytes]:
        sent.append(number(self, image, capture_ts_us, reset))
        if len(sent) == 2:
            numbered.set()
            wait_until(lambda: server.facts[name].closing)
            assert server.facts[name].connections == 1
        return sent[-1]

    async def in_time(peer: Any, ws_url: Any, code: int) -> None:
        while not numbered.is_set():
            await asyncio.sleep(0.005)
        await moves(peer, ws_url, code)

    monkeypatch.setattr(core.ClientCore, "frame", late)
    monkeypatch.setattr(hostile_scenarios, "_moves", in_time)
    check(server, name, play(kind, server, name))
    assert numbered.is_set()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_the_reading_thread_has_not_handed_over_yet_is_waited_for(
    server: RunningHostileServer, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server said and its close come together, before the client looks for messages, or while it waits for
    some: the connection knows of the close before anyone can read what was said.
    """
    name, halfway, looking = f"moves_under_a_frame-sync-{when}", threading.Event(), threading.Event()
    hand_over = sync._Connection.process_event

    async def at_once(peer: Any, ws_url: Any, code: int) -> None:
        while when == "meanwhile" and not looking.is_set():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        said = json.dumps({"type": "moved", "ws_url": ws_url}).encode()
        await peer.close(code, after=Frame(Opcode.TEXT, said).serialize(mask=False))

    def slowly(self: sync._Connection, event: Any) -> None:
        if self.protocol.close_rcvd is not None and not halfway.is_set():
            halfway.set()
            time.sleep(0.6)
        hand_over(self, event)

    monkeypatch.setattr(hostile_scenarios, "_moves", at_once)
    monkeypatch.setattr(sync._Connection, "process_event", slowly)
    with StreamClient(server.url, name, options(name)) as client:
        client.send(JPEG)
        looking.set()
        if when == "before":
            assert halfway.wait(10)
            assert client.try_send(JPEG) is None
        else:
            assert client.receive(0.3) is None
        assert client.receive() == FramesLost((1,))
        assert (client.moves, client.reconnections) == (1, 0)
        client.send(JPEG)
        assert isinstance(client.receive(), FrameResult)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_that_is_to_stay_where_it_is(server: RunningHostileServer, kind: str) -> None:
    name = f"moves-{kind}-not"
    story = play(kind, server, name, moves=0)
    assert isinstance(story.error, Refused)
    assert (story.error.code, server.facts[name].connections) == ("moved", 1)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_token_goes_along_and_the_resume_token_does_not(server: RunningHostileServer, kind: str) -> None:
    name = f"breaks_where_it_moved-{kind}-again"
    story = play(kind, server, name, token="s3cret")
    assert story.back
    hellos = server.facts[name].hellos
    assert [hello["resume"] for hello in hellos] == [None, None, None], "each is of another address"
    assert len(server.facts[name].tokens) == 3
    assert server.facts[name].tokens == ["czNjcmV0"] * 3


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHostileServer, ssl.SSLContext]]:
    identity = kept_identity(tmp_path_factory.mktemp("tls"), [ip_address("127.0.0.1")])
    with hostile_server(server_context(identity)) as running:
        yield running, ssl.create_default_context(cafile=str(identity.certificate))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_came_over_tls_stays_there(secure: tuple[RunningHostileServer, ssl.SSLContext], kind: str) -> None:
    server, tls = secure
    check(server, f"moves-{kind}", play(kind, server, f"moves-{kind}", tls=tls))
    name = f"moves_to_clear-{kind}"
    story = play(kind, server, name, tls=tls, token="s3cret")
    assert isinstance(story.error, ServerMisbehaved)
    assert "wss to ws" in str(story.error)
    assert server.facts[name].connections == 1
