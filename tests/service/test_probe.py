"""What the health check of a container says of servers that are ready, not ready, and not there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from service import probe
from service.lan.certificate import kept_identity, server_context
from service.lan.door import TLS_HANDSHAKE, plain_answer
from service.serve import bind


@pytest.fixture
def answering() -> object:
    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(self.status)
            self.end_headers()
            self.wfile.write(b"kernels are being compiled")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_ready(answering: HTTPServer) -> None:
    assert probe.not_ready_because("127.0.0.1", answering.server_port) is None


def test_a_server_that_is_not_ready_says_why(answering: HTTPServer) -> None:
    answering.RequestHandlerClass.status = 503  # type: ignore[attr-defined]
    reason = probe.not_ready_because("127.0.0.1", answering.server_port)
    assert reason == "503: kernels are being compiled"


def test_nobody_there() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    assert f"127.0.0.1:{port}" in (probe.not_ready_because("127.0.0.1", port) or "")


@contextmanager
def door(tls: ssl.SSLContext | None, answer: bytes) -> Iterator[int]:
    """The port of a server that answers plain requests as `service.lan.door` does; others over TLS, if it has that."""

    def serve(connection: socket.socket) -> None:
        with connection:
            if connection.recv(1, socket.MSG_PEEK) != TLS_HANDSHAKE:
                connection.sendall(plain_answer(connection.recv(4096), connection.getsockname()))
            elif tls is not None:
                with tls.wrap_socket(connection, server_side=True) as secure:
                    asked.append(secure.recv(4096).partition(b"\r\n")[0])
                    secure.sendall(answer)

    def accept() -> None:
        for _ in range(2):
            serve(listener.accept()[0])

    asked: list[bytes] = []
    with bind("127.0.0.1", 0) as listener:
        thread = Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
    assert asked == ([] if tls is None else [b"GET /readyz HTTP/1.1"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 3\r\n\r\nnot", "503: not"),
    ],
)
def test_where_plain_requests_are_sent_to_https_that_is_asked(
    tmp_path: Path, answer: bytes, reason: str | None
) -> None:
    tls = server_context(kept_identity(tmp_path, []))
    with door(tls, answer) as port:
        assert probe.not_ready_because("127.0.0.1", port) == reason


def test_a_redirect_is_not_ready_where_there_is_no_https() -> None:
    with door(None, b"") as port:
        assert (probe.not_ready_because("127.0.0.1", port) or "").startswith("307")


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1"])
def test_the_environment_says_where(
    answering: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    monkeypatch.setenv("AFTERIMAGE_HOST", host)
    monkeypatch.setenv("AFTERIMAGE_PORT", str(answering.server_port))
    assert probe.main() == 0
    answering.RequestHandlerClass.status = 503  # type: ignore[attr-defined]
    assert probe.main() == 1
    assert "503" in capsys.readouterr().err


def test_nothing_but_the_standard_library_is_loaded() -> None:
    heavy = {"numba", "numpy", "pydantic", "typer", "uvicorn"}
    code = f"import sys, service.probe; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
