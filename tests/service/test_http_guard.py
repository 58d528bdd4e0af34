"""Hostile sockets against the real server: slow, endless, too many, half open, and handshakes that break parsers."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from service_fakes import FakeEngine, RunningServer, frame, make_registry, make_settings, running_server, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from service import http_guard
from service.http_guard import Gate
from tests.service.test_serve import open_socket

HEAD = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
UPGRADE = (
    b"GET /v1/streams/door/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-protocol: afterimage.v1\r\n"
)


@contextmanager
def server(**settings) -> Iterator[RunningServer]:
    with running_server(make_registry(FakeEngine().model()), make_settings(**settings)) as running:
        yield running
        wait_until(lambda: len(gate(running)) == 0)
        wait_until(lambda: not running.server.server_state.connections)


def gate(running: RunningServer) -> Gate:
    return running.server.config.http_protocol_class.gate


def dial(running: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), 10)


def answer(peer: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = bytearray()
    try:
        while part := peer.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return bytes(data)


def problem(data: bytes) -> tuple[int, str]:
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["code"]


def alive(running: RunningServer) -> bool:
    with dial(running) as peer:
        peer.sendall(HEAD + b"connection: close\r\n\r\n")
        return b"200 OK" in answer(peer)


def drip(peer: socket.socket, data: bytes, every_s: float) -> None:
    """Send byte by byte until the server answers or hangs up; it must before all is sent."""
    peer.settimeout(every_s)
    for byte in data:
        try:
            peer.sendall(bytes([byte]))
            if peer.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        raise AssertionError("the server took it all")
    peer.settimeout(10)


def test_a_head_byte_by_byte_is_cut_while_others_are_served() -> None:
    with server(header_timeout_s=0.5) as running, dial(running) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert alive(running)
        drip(slow, b"x: " + b"y" * 1000, 0.02)
        assert problem(answer(slow)) == (408, "head_too_slow")
        assert alive(running)


def test_a_connection_that_says_nothing_is_cut() -> None:
    with server(header_timeout_s=0.2) as running, dial(running) as silent:
        assert problem(answer(silent)) == (408, "head_too_slow")


def test_empty_lines_after_an_answer_do_not_hold_a_connection() -> None:
    """Each byte puts uvicorn's own timer off."""
    with server(header_timeout_s=0.2) as running, dial(running) as peer:
        peer.sendall(HEAD + b"\r\n")
        said = b""
        while b'"ok"' not in said:
            said += peer.recv(65536)
        drip(peer, b"\r\n" * 200, 0.1)


def test_idle_connections_are_closed_and_busy_ones_kept() -> None:
    with server(header_timeout_s=0.3) as running, dial(running) as peer, dial(running) as idle:
        for _ in range(3):
            peer.sendall(HEAD + b"\r\n")
            said = b""
            while b'"ok"' not in said:
                said += peer.recv(65536)
        assert problem(answer(idle)) == (408, "head_too_slow")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414, "url_too_long"),
        (b"GET /?" + b"a=1&" * 1500 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414, "url_too_long"),
        (HEAD + b"".join(b"h%d: x\r\n" % n for n in range(100)) + b"\r\n", 431, "head_too_large"),
        (HEAD + b"h: " + b"x" * 5000 + b"\r\n\r\n", 431, "head_too_large"),
        (HEAD + b"".join(b"h%d: %s\r\n" % (n, b"x" * 4000) for n in range(9)) + b"\r\n", 431, "head_too_large"),
        (HEAD + b"h: " + b"x" * 400_000, 431, "head_too_large"),
        (b"G" * 400_000, 400, "bad_http"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_http"),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "bad_http"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, "bad_http"),
        (UPGRADE + b"h: " + b"x" * 5000 + b"\r\n\r\n", 431, "head_too_large"),
        (UPGRADE + b"\xc3\xa9: x\r\n\r\n", 400, "bad_http"),
    ],
)
def test_heads_are_bounded(request_bytes: bytes, status: int, code: str) -> None:
    with server() as running:
        with dial(running) as peer:
            try:
                peer.sendall(request_bytes)
            except (BrokenPipeError, ConnectionResetError):
                assert len(request_bytes) > 100_000, "only what is longer than socket buffers may fail"
            data = answer(peer)
            if data or len(request_bytes) < 100_000:
                assert problem(data) == (status, code)
        assert alive(running)


def test_handshakes_that_the_other_parser_refuses() -> None:
    with server() as running, dial(running) as peer:
        peer.sendall(UPGRADE.replace(b"GET", b"POST") + b"\r\n")
        assert answer(peer).startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))


def test_a_handshake_that_breaks_the_other_parser_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self, data: bytes) -> None:
        raise AssertionError("as websockets' own do")

    monkeypatch.setattr(http_guard.GuardedWebSocket, "data_received", fail)
    with server() as running, dial(running) as peer:
        peer.sendall(UPGRADE + b"\r\n")
        assert problem(answer(peer)) == (400, "bad_handshake")


def test_a_slow_body_is_cut() -> None:
    with server(body_timeout_s=0.3) as running, dial(running) as slow:
        slow.sendall(b"POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n\r\n{")
        drip(slow, b" " * 400, 0.05)
        assert problem(answer(slow)) == (408, "body_too_slow")


def test_connections_are_bounded_in_all() -> None:
    with server(max_connections=4) as running, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(dial(running))
        wait_until(lambda: len(gate(running)) == 4)
        with dial(running) as one_more:
            assert problem(answer(one_more)) == (503, "too_many_connections")
        stack.close()
        wait_until(lambda: len(gate(running)) == 0)
        assert alive(running)


def test_connections_are_bounded_per_peer_but_for_proxies() -> None:
    with server(max_connections_per_peer=1, trusted_proxies=()) as running, dial(running):
        wait_until(lambda: len(gate(running)) == 1)
        with dial(running) as one_more:
            assert problem(answer(one_more)) == (503, "too_many_connections")
    with server(max_connections_per_peer=1) as running, dial(running):
        assert alive(running)


def test_counts_by_address() -> None:
    counted = Gate(make_settings(max_connections_per_peer=1, max_connections=3, trusted_proxies=("192.0.2.8/30",)))
    assert counted.enter("192.0.2.1") is None
    assert "one address" in (counted.enter("192.0.2.1") or "")
    counted.leave("192.0.2.1")
    assert counted.enter("2001:db8::1") is None
    assert "one address" in (counted.enter("2001:db8::2") or ""), "one /64"
    counted.leave("2001:db8::2")
    assert counted.enter("192.0.2.9") is None
    assert "at most 3 connections" in (counted.enter("192.0.2.9") or "")


def test_websockets_count_too_and_are_counted_out() -> None:
    with server() as running:
        for _ in range(3):
            with open_socket(running.port) as peer:
                peer.send('{"type":"hello"}')
                peer.recv(5)
                assert len(gate(running)) == 1
            wait_until(lambda: len(gate(running)) == 0)


def test_a_half_open_websocket_is_freed() -> None:
    """The handshake, then silence: pings stay unanswered."""
    with server(ping_s=0.3) as running, dial(running) as peer:
        peer.sendall(UPGRADE + b"\r\n")
        assert b"101 Switching Protocols" in peer.recv(65536)
        answer(peer)
        wait_until(lambda: not running.service.connections)


def masked(opcode: int, payload: bytes, *, fin: bool = True, declared: int | None = None) -> bytes:
    """A client's frame with a mask of zeros."""
    length = len(payload) if declared is None else declared
    return struct.pack(">BBQ", (128 if fin else 0) | opcode, 255, length) + bytes(4) + payload


def handshake(peer: socket.socket) -> None:
    peer.sendall(UPGRADE + b"\r\n")
    assert b"101 Switching Protocols" in peer.recv(65536)
    peer.sendall(masked(1, b'{"type":"hello"}'))
    assert b"ready" in peer.recv(65536)


def test_a_websocket_that_stops_in_mid_message_is_freed() -> None:
    with server(ping_s=0.3) as running, dial(running) as peer, open_socket(running.port, "good") as good:
        handshake(peer)
        peer.sendall(masked(2, frame(1)[:50], declared=5000))
        good.send('{"type":"hello"}')
        good.recv(5)
        good.send(frame(1))
        assert json.loads(good.recv(5))["seq"] == 1
        answer(peer)
        wait_until(lambda: len(running.service.connections) == 1)


def test_endless_empty_fragments_are_cut() -> None:
    with server() as running, dial(running) as peer:
        handshake(peer)
        peer.sendall(masked(2, b"x", fin=False) + masked(0, b"", fin=False) * (http_guard.MAX_FRAGMENTS + 1))
        data = answer(peer)
        assert struct.pack(">H", 1009) in data
        assert b"fragments" in data


def test_a_peer_that_pings_and_never_reads_is_cut() -> None:
    with server() as running, dial(running) as peer:
        handshake(peer)
        flood = struct.pack(">BB", 0x89, 0x80 | 125) + bytes(4) + bytes(125)
        with pytest.raises(OSError, match=r"reset|pipe"):
            peer.sendall(flood * 1_000_000)
        wait_until(lambda: not running.service.connections)


def test_a_message_larger_than_the_limit_is_refused_by_its_first_bytes() -> None:
    with server(max_message_bytes=2000) as running, dial(running) as peer:
        handshake(peer)
        peer.sendall(masked(2, b"", declared=1 << 40))
        assert struct.pack(">H", 1009) in answer(peer)


def test_a_thousand_connections_come_and_go() -> None:
    with server() as running:
        for _ in range(20):
            with ExitStack() as stack:
                for n in range(50):
                    peer = stack.enter_context(dial(running))
                    if n % 3 == 0:
                        peer.sendall(HEAD)
                    elif n % 3 == 1:
                        peer.sendall(HEAD + b"\r\n")
        wait_until(lambda: len(gate(running)) == 0)
        assert alive(running)


def test_a_good_client_sees_none_of_this() -> None:
    with server(max_connections=2) as running, open_socket(running.port) as peer:
        peer.send('{"type":"hello"}')
        peer.recv(5)
        for seq in range(1, 30):
            peer.send(frame(seq))
            assert json.loads(peer.recv(5))["seq"] == seq
        peer.send('{"type":"bye"}')
        with pytest.raises(ConnectionClosed) as caught:
            peer.recv(5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000


def send_and_wait(peer, message: bytes) -> None:
    peer.send(message)
    peer.recv(5)


def test_large_messages_end_the_connection_while_memory_is_short() -> None:
    """Frames of cameras are small: they pass."""
    with server() as running:
        left = [1 << 40]
        room = running.server.config.app.state.room
        room._available = lambda: left[0]
        with open_socket(running.port) as peer:
            peer.send('{"type":"hello"}')
            peer.recv(5)
            left[0] = 0
            peer.send(frame(1))
            assert '"seq":1' in peer.recv(5)
            with pytest.raises(ConnectionClosed) as closed:
                send_and_wait(peer, bytes(3 << 20))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert closed.value.rcvd.reason == "expected 24 MiB of memory free for messages, 0 MiB are left"
        left[0] = 1 << 40
        with open_socket(running.port, "other") as peer:
            peer.send('{"type":"hello"}')
            assert '"ready"' in peer.recv(5)
            peer.send([bytes(300 << 10), bytes(800 << 10)])  # a message in two pieces
            assert '"error"' in peer.recv(5)
            assert alive(running)


def test_pieces_of_a_message_that_come_after_a_close_are_not_kept() -> None:
    protocol = object.__new__(http_guard.GuardedWebSocket)
    protocol.close_sent, protocol.frames = True, [b"first"]
    for _ in range(5):
        protocol.handle_cont(Frame(Opcode.CONT, b"more", fin=False))
    assert protocol.frames == [b"first"]
    protocol.close_sent = False
    protocol.handle_cont(Frame(Opcode.CONT, b"more", fin=False))
    assert protocol.frames == [b"first", b"more"]
