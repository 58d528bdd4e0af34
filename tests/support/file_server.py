"""An HTTP server on loopback that serves one file as badly as a test wants it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What is served, how, and the headers of the requests so far."""

    body: bytes = field(repr=False)
    url: str = ""
    status: int = 200
    tag: str = '"v1"'
    ranges: bool = True
    """Whether Range is honoured."""
    answer_range_with: str | None = None
    """Content-Range to answer any Range with, instead of the right one; "416": that status."""
    length: int | None = -1
    """Content-Length to state; -1: the right one, None: none."""
    encoding: str | None = None
    cuts: list[int] = field(default_factory=list)
    """Bytes of body after which each connection is cut, in turn; then none is."""
    stall_s: float = 0.0
    """How long to wait after half of the body."""
    redirects: list[str] = field(default_factory=list)
    """Where each request is sent on to, in turn."""
    requests: list[Message] = field(default_factory=list)
    sent_bytes: int = 0

    @property
    def host(self) -> str:
        """As messages name it, with its port."""
        return self.url.split("/")[2]


@contextmanager
def serving(body: bytes) -> Iterator[Served]:
    """Serve `body` at `Served.url`, from threads, until the block ends."""
    served = Served(body)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.requests.append(self.headers)
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
                _answer(self, served)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/a/model.onnx"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, served: Served) -> None:
    if served.redirects:
        request.send_response(302)
        request.send_header("Location", served.redirects.pop(0))
        request.send_header("Content-Length", "0")
        request.send_header("Connection", "close")
        request.end_headers()
        return
    start, status = _start(request, served), served.status
    body = served.body[start:]
    if start or (served.answer_range_with and "Range" in request.headers):
        status = 416 if served.answer_range_with == "416" else 206
    request.send_response(status)
    if status == 206:
        right = f"bytes {start}-{len(served.body) - 1}/{len(served.body)}"
        request.send_header("Content-Range", served.answer_range_with or right)
    if served.tag:
        request.send_header("ETag", served.tag)
    if served.encoding:
        request.send_header("Content-Encoding", served.encoding)
    if served.length is not None:
        request.send_header("Content-Length", str(len(body) if served.length == -1 else served.length))
    request.send_header("Connection", "close")
    request.end_headers()
    if status == 416:
        return
    if served.cuts:
        body = body[: served.cuts.pop(0)]
    for half in (body[: len(body) // 2], body[len(body) // 2 :]):
        request.wfile.write(half)
        request.wfile.flush()
        served.sent_bytes += len(half)
        time.sleep(served.stall_s)


def _start(request: BaseHTTPRequestHandler, served: Served) -> int:
    """First byte asked for, where ranges are honoured and the file is still the one that is meant."""
    asked = request.headers.get("Range", "")
    if not asked or not served.ranges or request.headers.get("If-Range", served.tag) != served.tag:
        return 0
    return int(asked.removeprefix("bytes=").removesuffix("-"))
