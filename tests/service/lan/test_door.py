"""The port that speaks TLS, on loopback: plain HTTP there, handshakes that do not end, and WebSockets that are cut."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from service_fakes import FakeEngine, RunningServer, frame, make_registry, make_settings, subprotocols, wait_until
from websockets.sync.client import connect

from service import http_guard, probe
from service.lan import door as module
from service.lan.door import Door, plain_answer
from service.lan.reception import Reception
from service.serve import bind, make_server


@contextmanager
def secure_server(folder: Path, **fields) -> Iterator[RunningServer]:
    """The real server over TLS on 127.0.0.1; its connections are counted out at the end."""
    settings = make_settings(lan=True, state_folder=folder, **fields)
    server = make_server(settings, make_registry(FakeEngine().model()))
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server.reception = Reception(settings, port, quiet=True)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    running = RunningServer(port, server, thread)
    thread.start()
    try:
        wait_until(lambda: server.started)
        wait_until(lambda: running.service.warm)
        yield running
        wait_until(lambda: len(server.reception.gate) == 0)
        wait_until(lambda: len(server.config.http_protocol_class.gate) == 0)
        wait_until(lambda: not server.server_state.connections)
    finally:
        running.stop()


@pytest.fixture
def trusting(tmp_path: Path) -> Iterator:
    """A function that makes a client's context which trusts the server's certificate."""

    def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=tmp_path / "lan.pem")

    return context


def dial(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10)


def answer(peer: socket.socket, request: bytes) -> tuple[bytes, bytes]:
    peer.sendall(request)
    data = bytearray()
    while part := peer.recv(65536):
        data += part
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return head, body


def joined(server: RunningServer) -> str:
    joins = server.service.access.joins
    return joins.admit(joins.new_code()).key


def test_https_and_websockets_come_through(tmp_path: Path, trusting) -> None:
    with secure_server(tmp_path) as server:
        assert probe.not_ready_because("127.0.0.1", server.port) is None, "the health check gets through as well"
        url = f"https://127.0.0.1:{server.port}"
        with httpx.Client(verify=trusting(), trust_env=False) as client:
            health = client.get(f"{url}/healthz")
            assert health.status_code == 200
            assert "strict-transport-security" not in health.headers
            made = client.post(f"{url}/v1/streams", headers={"authorization": f"Bearer {joined(server)}"}).json()
        assert made["ws_url"].startswith("wss://")
        with connect(made["ws_url"], subprotocols=subprotocols(made["token"]), ssl=trusting()) as peer:
            peer.send('{"type":"hello"}')
            assert json.loads(peer.recv(5))["type"] == "ready"
            peer.send(frame(1))
            assert json.loads(peer.recv(5))["seq"] == 1


def test_a_browser_that_speaks_plain_http_is_sent_to_https(tmp_path: Path) -> None:
    with secure_server(tmp_path) as server, dial(server) as peer:
        head, _ = answer(peer, b"GET /v1/models?x HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 307 ")
        assert f"location: https://127.0.0.1:{server.port}/\r\n".encode() in head
        assert b"evil" not in head


def test_a_program_that_speaks_plain_http_is_refused_in_words(tmp_path: Path) -> None:
    with secure_server(tmp_path) as server, dial(server) as peer:
        head, body = answer(peer, b"POST /v1/detect HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["code"] == "https_only"


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert b"location: https://[fd00::5]:8000/\r\n" in plain_answer(b"GET / HTTP/1.1", ("fd00::5", 8000, 0, 0))
    assert b"https://[fe80::1]:8000/" in plain_answer(b"\x00", ("fe80::1%eth0", 8000))


def test_handshakes_that_do_not_end_are_cut(tmp_path: Path) -> None:
    with secure_server(tmp_path, header_timeout_s=0.5) as server, dial(server) as silent, dial(server) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        for peer in (silent, half):
            assert peer.recv(100) == b""


def test_handshakes_that_are_not_done_are_bounded(tmp_path: Path, trusting) -> None:
    with secure_server(tmp_path, header_timeout_s=60.0, max_connections=4) as server:
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(dial(server))
            wait_until(lambda: len(server.server.reception.gate) == 4)
            assert stack.enter_context(dial(server)).recv(100) == b"", "the fifth"
        wait_until(lambda: len(server.server.reception.gate) == 0)
        with httpx.Client(verify=trusting(), trust_env=False) as client:
            assert client.get(f"https://127.0.0.1:{server.port}/healthz").status_code == 200


def test_a_websocket_that_is_aborted_leaves_nothing_behind(
    tmp_path: Path, trusting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a transport of TLS no longer tells after that is not asked of it; `secure_server` counts."""
    monkeypatch.setattr(http_guard, "ABORT_S", 0.1)
    with secure_server(tmp_path, ping_s=0.2) as server:
        key = joined(server)
        with dial(server) as raw, trusting().wrap_socket(raw, server_hostname="127.0.0.1") as peer:
            host = f"127.0.0.1:{server.port}"
            offered = ", ".join(subprotocols(key))
            peer.sendall(
                f"GET /v1/streams/door/ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"sec-websocket-protocol: {offered}\r\n\r\n".encode()
            )
            assert b" 101 " in peer.recv(4096)
            wait_until(lambda: not server.server.server_state.connections, 20)  # no pong ever comes


def test_closing_does_not_wait_for_browsers_that_keep_a_connection(tmp_path: Path, trusting) -> None:
    with (
        secure_server(tmp_path) as server,
        dial(server) as raw,
        trusting().wrap_socket(raw, server_hostname="127.0.0.1") as peer,
    ):
        peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in peer.recv(4096)
        server.server.should_exit = True
        wait_until(lambda: not server.server.server_state.connections, 20)  # though nobody answers its goodbye


def test_no_file_descriptors_are_said_once_until_it_recovers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    full = OSError(24, "Too many open files")

    class Refusing:
        def enter(self, host: str) -> str:
            return "no"

        def leave(self, host: str) -> None:
            pass

    async def run() -> None:
        done = asyncio.Event()
        outcomes = iter([full, full, full, None, full, full])

        async def accept(_: socket.socket):
            outcome = next(outcomes, done)
            if outcome is done:
                done.set()
                await asyncio.Event().wait()
            if outcome is not None:
                raise outcome
            return socket.socket(), ("127.0.0.1", 1)

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", accept, raising=False)
        with socket.socket() as listener:
            door = Door(listener, asyncio.Protocol, None, Refusing(), 1.0)
            await asyncio.wait_for(done.wait(), 10)
            door.close()
            await door.wait_closed()

    asyncio.run(run())
    assert caplog.text.count("could not be accepted: Too many open files") == 2


def test_trouble_of_the_reception_ends_no_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with secure_server(tmp_path) as server:

        def fail(*_: object) -> None:
            raise ValueError("of this test")

        desk = server.server.reception
        desk.look = desk.greet = fail
        desk._looked = -1e9
        for said in ("the invitation cannot be shown", "addresses and certificate cannot be looked at"):
            wait_until(lambda said=said: said in caplog.text)
        assert server.thread.is_alive()
