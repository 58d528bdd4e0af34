"""What the health check of a container says of servers that are ready, not ready, and not there."""

from __future__ import annotations

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from service import probe
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
    code = "import sys, service.probe; sys.exit(bool({'numba', 'numpy', 'pydantic', 'typer', 'uvicorn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
