"""The real server: uvicorn's settings, draining on SIGTERM in its own process, and hostile sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from service_fakes import (
    FakeEngine,
    frame,
    idle_lane,
    make_registry,
    make_settings,
    running_server,
    subprotocols,
    wait_until,
)
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from service.app import create_app
from service.serve import Server, bind, make_config, make_server, serve

ROOT = Path(__file__).parents[2]
PAGE = "open http://127.0.0.1:8000/\n"
LONG_HINT = f"try: {'very/' * 30}long stream scene --url http://127.0.0.1:65000"

PROCESS = """
import sys
sys.path.insert(0, "tests/support")
from service_fakes import FakeEngine, make_registry, make_settings
from service.serve import serve
import logging
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
engine = FakeEngine(push_s=0.3)
serve(make_settings(retry_after_ms=250), make_registry(engine.model()))
"""


LOADING = """
import sys
sys.path.insert(0, "tests/support")
from service_fakes import FakeEngine, make_registry, make_settings
from service.serve import serve
import logging
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
engine = FakeEngine()
engine.gate.clear()
serve(make_settings(), make_registry(engine.model()))
"""


def open_socket(port: int, stream_id: str = "door", receive_bytes: int | None = None):
    """receive_bytes : what the client's side of the socket holds that was not read; None: what the system chooses."""
    url = f"ws://127.0.0.1:{port}/v1/streams/{stream_id}/ws"
    raw = socket.socket()
    if receive_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.connect(("127.0.0.1", port))
    return connect(url, sock=raw, subprotocols=subprotocols(), compression=None)


def test_uvicorns_defaults_are_overridden(engine: FakeEngine) -> None:
    settings = make_settings(max_message_bytes=12345)
    config = make_config(create_app(settings, make_registry(engine.model())), settings)
    config.load()
    assert issubclass(config.ws_protocol_class, WebSocketsSansIOProtocol)
    assert (config.ws_max_size, config.ws_max_queue, config.ws_per_message_deflate) == (12345, 1, False)
    assert config.timeout_graceful_shutdown == 3


def test_both_families_can_have_one_port() -> None:
    with bind("127.0.0.1", 0) as first, bind("::1", first.getsockname()[1], ipv6_only=True) as second:
        assert second.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_bind_reports_a_taken_port() -> None:
    with bind("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", first.getsockname()[1])


def test_sigterm_answers_what_is_under_way_and_closes_with_1012() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        port = next(int(line.rsplit(":", 1)[1]) for line in lines if "listening on" in line)
        wait_until(lambda: ready(port), 20)
        with open_socket(port) as socket:
            socket.send('{"type":"hello"}')
            assert json.loads(socket.recv(5))["type"] == "ready"
            socket.send(frame(1))
            time.sleep(0.1)
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert json.loads(socket.recv(5))["seq"] == 1, "the frame under way is answered"
            assert json.loads(socket.recv(5)) == {"type": "draining", "retry_after_ms": 250}
            with pytest.raises(ConnectionClosed) as caught:
                socket.recv(5)
            assert (caught.value.rcvd.code, "250 ms" in caught.value.rcvd.reason) == (1012, True)
        assert process.wait(5) == 0
        assert time.monotonic() - asked < 5
    finally:
        process.kill()
        process.communicate()


def test_sigterm_does_not_wait_for_a_model_that_is_being_loaded() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOADING], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        port = next(int(line.rsplit(":", 1)[1]) for line in lines if "listening on" in line)
        wait_until(lambda: alive(port), 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()


def test_says_once_what_to_try_when_it_is_ready(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    said = ""

    def heard() -> str:
        nonlocal said
        said += capfd.readouterr().err
        return said

    engine.gate.clear()
    with running_server_with_hint(engine) as server:
        time.sleep(0.3)
        assert LONG_HINT not in heard(), "not ready yet"
        engine.gate.set()
        wait_until(lambda: f"{LONG_HINT}\n" in heard())
        time.sleep(0.3)
        assert heard().count(LONG_HINT) == 1, "in one line, and once"
        assert server.hint == ""


@pytest.mark.parametrize(
    ("settings", "address", "expected"),
    [
        ({}, ("127.0.0.1", 8000), f"{PAGE}try: a stream scene"),
        ({}, ("127.0.0.1", 9), "open http://127.0.0.1:9/\ntry: a stream scene --url http://127.0.0.1:9"),
        ({"host": "::1"}, ("::1", 8000), "open http://[::1]:8000/\ntry: a stream scene --url http://[::1]:8000"),
        ({"host": "0.0.0.0"}, ("0.0.0.0", 8000), ""),
        ({"host": "0.0.0.0", "anonymous_streams": True}, ("0.0.0.0", 8000), f"{PAGE}try: a stream scene"),
        (
            {"host": "::", "anonymous_streams": True},
            ("::", 9),
            "open http://127.0.0.1:9/\ntry: a stream scene --url http://127.0.0.1:9",
        ),
        ({"anonymous_streams": False}, ("127.0.0.1", 8000), ""),
        ({"keys_file": Path("keys")}, ("127.0.0.1", 8000), ""),
    ],
)
def test_what_to_try_works_as_it_is_printed(
    settings: dict, address: tuple[str, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens here: the address is only said to be bound."""

    class Listener(socket.socket):
        def getsockname(self) -> tuple[str, int]:
            return address

    class Stub:
        hint = ""

        async def serve(self, sockets: list[socket.socket]) -> None:
            assert len(sockets) == 1

    stub = Stub()
    monkeypatch.setattr("service.serve.bind", lambda host, port: Listener())
    monkeypatch.setattr("service.serve.make_server", lambda *_: stub)
    serve(make_settings(**settings), try_next="a stream scene")
    assert stub.hint == expected


@pytest.mark.parametrize(
    ("host", "bound", "said"),
    [
        ("127.0.0.1", [("127.0.0.1", 0)], "listening on https://127.0.0.1:9"),
        ("0.0.0.0", [("0.0.0.0", 0), ("::", 9)], "listening on https://0.0.0.0:9"),
    ],
)
def test_a_lan_is_served_over_tls_on_both_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, host: str, bound: list, said: str
) -> None:
    """Nothing listens here: the addresses are only said to be bound."""
    asked: list[tuple[str, int]] = []

    class Listener(socket.socket):
        def getsockname(self) -> tuple[str, int]:
            return (host, 9)

    class Stub:
        hint, reception = "", None

        async def serve(self, sockets: list[socket.socket]) -> None:
            assert len(sockets) == len(bound)

    stub = Stub()
    caplog.set_level("INFO")
    monkeypatch.setattr("service.serve.bind", lambda *where, ipv6_only=False: asked.append(where) or Listener())
    monkeypatch.setattr("service.serve.make_server", lambda *_: stub)
    serve(make_settings(host=host, lan=True, state_folder=tmp_path), try_next="a stream scene")
    assert asked == bound
    assert said in caplog.text
    assert "nobody may use" not in caplog.text
    assert stub.reception is not None
    assert stub.hint == ""


def test_a_server_that_nobody_may_use_says_so(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    class Listener(socket.socket):
        def getsockname(self) -> tuple[str, int]:
            return ("0.0.0.0", 9)

    class Stub:
        async def serve(self, sockets: list[socket.socket]) -> None: ...

    monkeypatch.setattr("service.serve.bind", lambda host, port: Listener())
    monkeypatch.setattr("service.serve.make_server", lambda *_: Stub())
    for fields in ({"anonymous_streams": True}, {"keys_file": Path("keys")}):
        serve(make_settings(host="0.0.0.0", **fields))
    serve(make_settings())
    assert "nobody may use" not in caplog.text
    serve(make_settings(host="0.0.0.0"))
    assert "nobody may use this server" in caplog.text


@contextmanager
def running_server_with_hint(engine: FakeEngine) -> Iterator[Server]:
    server = make_server(make_settings(), make_registry(engine.model()))
    server.hint = LONG_HINT
    listener = bind("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        engine.gate.set()
        server.should_exit = True
        thread.join(15)
        listener.close()


def ready(port: int, path: str = "/readyz") -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def alive(port: int) -> bool:
    return ready(port, "/healthz")


def test_too_large_a_message_is_closed_with_1009_and_others_live_on(engine: FakeEngine) -> None:
    settings = make_settings(max_message_bytes=50_000)
    with running_server(make_registry(engine.model()), settings) as server, open_socket(server.port) as good:
        good.send('{"type":"hello"}')
        good.recv(5)
        with open_socket(server.port, "big") as big:
            big.send('{"type":"hello"}')
            big.recv(5)
            big.send(bytes(60_000))
            with pytest.raises(ConnectionClosed) as caught:
                big.recv(5)
            assert caught.value.rcvd.code == 1009
        good.send(frame(1))
        assert json.loads(good.recv(5))["seq"] == 1


def test_a_client_that_stops_in_mid_message_slows_nobody(engine: FakeEngine) -> None:
    with running_server(make_registry(engine.model()), make_settings()) as server:
        with open_socket(server.port, "half") as half, open_socket(server.port) as good:
            half.send('{"type":"hello"}')
            half.recv(5)
            half.socket.sendall(b"\x82\xff" + (1 << 20).to_bytes(8, "big") + b"mask" + bytes(1000))
            good.send('{"type":"hello"}')
            good.recv(5)
            for seq in range(1, 20):
                good.send(frame(seq))
                assert json.loads(good.recv(5))["seq"] == seq
            half.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not server.service.connections)


def test_a_connection_that_dies_leaves_nothing_behind_but_the_cache(engine: FakeEngine) -> None:
    with running_server(make_registry(engine.model()), make_settings(resume_s=0.1)) as server:
        for _ in range(20):
            with open_socket(server.port) as dying:
                dying.send('{"type":"hello"}')
                dying.recv(5)
                dying.send(frame(1))
                dying.socket.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: not server.service.connections)
        wait_until(lambda: len(server.service.streams) == 0, 5)


@contextmanager
def greeted(port: int, stream_id: str, receive_bytes: int | None = None, **fields) -> Iterator:
    with open_socket(port, stream_id, receive_bytes) as opened:
        opened.send(json.dumps({"type": "hello", **fields}))
        assert json.loads(opened.recv(5))["type"] == "ready"
        yield opened


class Deaf:
    """Sends frames as fast as the socket takes them, in whole messages, and reads none of the answers."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw, self.seq, self.rest = raw, 0, b""
        self.payload = frame(1, size=(1024, 1024))
        raw.setblocking(False)

    def send(self) -> bool:
        """Whether the socket took anything."""
        if not self.rest:
            self.seq += 1
            data = self.payload[:4] + self.seq.to_bytes(4, "little") + self.payload[8:]
            self.rest = b"\x82\xff" + len(data).to_bytes(8, "big") + bytes(4) + data  # masked, with a mask of zero
        try:
            self.rest = self.rest[self.raw.send(self.rest) :]
        except BlockingIOError:
            return False
        return True


def test_a_client_that_never_reads_slows_nobody_and_fills_nothing(engine: FakeEngine) -> None:
    """It asks for large annotated frames: its own socket fills up, and the server stops reading from it."""
    settings = make_settings(outbox_messages=2, send_timeout_s=60)
    with (
        running_server(make_registry(engine.model()), settings) as server,
        greeted(server.port, "deaf", 1 << 14, outputs=["detections", "annotated"]) as deaf_socket,
        greeted(server.port, "good") as good,
    ):
        deaf, deadline, refusals = Deaf(deaf_socket.socket), time.monotonic() + 90, 0
        while refusals < 100:
            assert time.monotonic() < deadline, "the server goes on reading from a client that does not"
            refusals = 0 if deaf.send() else refusals + 1
            time.sleep(0.005 if refusals else 0)
        for seq in range(1, 21):
            good.send(frame(seq))
            assert json.loads(good.recv(5))["seq"] == seq
        (connection,) = (c for c in server.service.connections if c.stream_id == "deaf")
        assert len(connection._outbox) <= 2 + 2 * (settings.window + 2)
        assert len(connection._stream.lane.pending) <= 2
        assert len(connection._protocol._settled) <= 100
        deaf_socket.socket.shutdown(socket.SHUT_RDWR)


def test_a_client_that_does_not_read_is_given_up_after_a_time(engine: FakeEngine) -> None:
    settings = make_settings(outbox_messages=2, send_timeout_s=0.3)
    with (
        running_server(make_registry(engine.model()), settings) as server,
        greeted(server.port, "deaf", 1 << 14, outputs=["annotated"]) as deaf_socket,
    ):
        deaf, deadline = Deaf(deaf_socket.socket), time.monotonic() + 90
        while server.service.connections:
            assert time.monotonic() < deadline, "it is still connected"
            try:
                time.sleep(0 if deaf.send() else 0.005)
            except OSError:
                wait_until(lambda: not server.service.connections)


def test_a_flood_leaves_a_slow_stream_its_frames() -> None:
    """By count, not by the clock: while four clients send whenever they may, none of the slow one's is dropped."""
    engine = FakeEngine(push_s=0.004)
    stop, answered = threading.Event(), list[int]()
    with running_server(make_registry(engine.model()), make_settings(workers=1)) as server:

        def flood(name: str) -> None:
            with greeted(server.port, name) as one:
                seq = 0
                while not stop.is_set():
                    seq += 1
                    one.send(frame(seq, seq % 250))
                    one.recv(5)
                answered.append(seq)

        floods = [threading.Thread(target=flood, args=(f"flood{number}",)) for number in range(4)]
        for thread in floods:
            thread.start()
        try:
            with greeted(server.port, "slow") as slow:
                for seq in range(1, 16):
                    slow.send(frame(seq))
                    message = json.loads(slow.recv(5))
                    assert (message["seq"], message["dropped"]) == (seq, 0)
                assert idle_lane(server.service, "slow").items == 15
        finally:
            stop.set()
            for thread in floods:
                thread.join(10)
        assert len(answered) == 4
