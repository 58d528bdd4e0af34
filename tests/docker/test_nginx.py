"""A real nginx with the example's configuration before a server: TLS, WebSockets, who asks and by which scheme."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from programs import free_port, program, running
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
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from clients.python import Policy, StreamClient, StreamOptions
from service.keys import Scope, add_key
from service.lan.certificate import kept_identity

EXAMPLE = Path(__file__).parents[2] / "docker/nginx/afterimage.conf"
VISITOR = "127.0.0.2"
"""Loopback too, but nobody's own address: neither the proxy's nor the server's."""
MAIN = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/afterimage.conf;
}}
"""


@dataclass
class Proxied:
    """A server behind nginx. trust : a client's context that takes the proxy's certificate"""

    server: RunningServer
    port: int
    plain_port: int
    key: str
    trust: ssl.SSLContext

    @property
    def name(self) -> str:
        """As visitors know it."""
        return f"cam.example:{self.port}"

    def visit(self) -> httpx.Client:
        """A client that comes from elsewhere."""
        transport = httpx.HTTPTransport(verify=self.trust, local_address=VISITOR)
        return httpx.Client(base_url=f"https://localhost:{self.port}", transport=transport, headers={"host": self.name})

    def open(self, origin: str) -> ClientConnection:
        """A browser's WebSocket."""
        raw = socket.create_connection(("127.0.0.1", self.port), source_address=(VISITOR, 0))
        return connect(
            f"wss://{self.name}/v1/streams/door/ws", sock=raw, ssl=self.trust, server_hostname="localhost",
            origin=origin, subprotocols=subprotocols(self.key),
        )  # fmt: skip


def configure(folder: Path, server_port: int, port: int, plain_port: int) -> Path:
    """The example with this test's ports and files, in a main file of its own."""
    identity = kept_identity(folder, [])
    text = EXAMPLE.read_text()
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{server_port}",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/cam.example/fullchain.pem": str(identity.certificate),
        "/etc/ssl/cam.example/privkey.pem": str(identity.key),
        "/var/log/nginx/afterimage.log": str(folder / "access.log"),
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "afterimage.conf").write_text(text)
    main = folder / "nginx.conf"
    main.write_text(MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    return main


@contextmanager
def behind_nginx(folder: Path, engine: FakeEngine, port: int, **fields: object) -> Iterator[Proxied]:
    nginx = program("nginx")
    key = add_key(folder / "keys", "door", [Scope.INFER])
    settings = make_settings(keys_file=folder / "keys", **fields)
    with running_server(make_registry(engine.model()), settings) as server:
        plain_port = free_port()
        main = configure(folder, server.port, port, plain_port)
        with running([nginx, "-e", str(folder / "error.log"), "-c", main], folder / "nginx.log"):
            wait_until(lambda: (folder / "pid").exists())
            trust = ssl.create_default_context(cafile=str(folder / "lan.pem"))
            yield Proxied(server, port, plain_port, key, trust)


@pytest.mark.parametrize("place", ["container", "loopback"])
def test_browsers_stream_through_it(place: str, tmp_path: Path, engine: FakeEngine) -> None:
    """A server that listens on loopback alone is told its public name."""
    port = free_port()
    own = f"https://cam.example:{port}"
    fields = {"host": "0.0.0.0"} if place == "container" else {"allowed_origins": (own,)}
    with behind_nginx(tmp_path, engine, port, **fields) as proxied:
        with pytest.raises(InvalidStatus, match="403"):
            proxied.open("https://elsewhere.example")
        with proxied.open(own) as browser:
            browser.send('{"type":"hello"}')
            assert json.loads(browser.recv(20))["type"] == "ready"
            for seq in range(1, 6):
                browser.send(frame(seq, level=10 * seq))
                assert json.loads(browser.recv(20))["seq"] == seq
            proxied.server.server.should_exit = True
            assert json.loads(browser.recv(20))["type"] == "draining"
            with pytest.raises(ConnectionClosed) as caught:
                browser.recv(20)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012


def test_a_server_on_loopback_takes_no_name_that_it_was_not_told(tmp_path: Path, engine: FakeEngine) -> None:
    port = free_port()
    with behind_nginx(tmp_path, engine, port) as proxied, pytest.raises(InvalidStatus, match="403"):
        proxied.open(f"https://cam.example:{port}")


def test_who_asks_is_known_and_cannot_be_made_up(
    tmp_path: Path, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with behind_nginx(tmp_path, engine, free_port()) as proxied, proxied.visit() as visitor:
        made_up = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "http", "forwarded": "for=203.0.113.9"}
        page = visitor.get("/", headers=made_up)
        assert page.status_code == 200
        assert "max-age" in page.headers["strict-transport-security"], "the scheme is the visitor's"
        wrong = visitor.get("/v1/models", headers={"authorization": f"Bearer aik_{'x' * 43}", **made_up})
        assert wrong.status_code == 401
        assert f"from {VISITOR} " in caplog.text
        assert "203.0.113.9" not in caplog.text
        right = {"x-api-key": proxied.key}
        assert visitor.get("/v1/models", headers=right).status_code == 200
        assert visitor.get("/metrics", headers=right).status_code == 404
        large = visitor.post("/v1/detect", headers=right, content=b"\xff" * (9 << 20))
        assert large.status_code == 413
        jpeg = {"content-type": "image/jpeg", **right}
        assert visitor.post("/v1/detect", headers=jpeg, content=image()).status_code == 200
        assert visitor.get("/v1/streams/door/mjpeg?ticket=secret").status_code == 401
        redirect = httpx.get(f"http://127.0.0.1:{proxied.plain_port}/x?y=1", headers={"host": "cam.example"})
        assert (redirect.status_code, redirect.headers["location"]) == (301, "https://cam.example/x?y=1")
        log = (tmp_path / "access.log").read_text()
        assert f"{VISITOR} " in log
        assert "/v1/streams/door/mjpeg" in log
        assert "secret" not in log


def test_the_python_client_streams_through_it(tmp_path: Path, engine: FakeEngine) -> None:
    with behind_nginx(tmp_path, engine, free_port()) as proxied:
        options = StreamOptions(policy=Policy.ALL, token=proxied.key, tls=proxied.trust)
        with StreamClient(f"https://localhost:{proxied.port}", "door", options) as client:
            found = list(client.results(image(level) for level in (50, 50, 90)))
        assert [one.result.decision for one in found] == ["keyframe", "reuse", "partial"]
