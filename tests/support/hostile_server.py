"""A server that does to clients what no server should, on 127.0.0.1; for clients in any language.

The stream's id names the scenario: `/v1/streams/NAME/ws`, or `/v1/streams/NAME-anything/ws` for one of one's own
(what a server remembers of a stream, such as how often it came, goes by the whole id). Scenarios and what a client
must make of each stand in `hostile_scenarios.py`. Messages are JSON, whatever is offered.

    python tests/support/hostile_server.py     prints its port, and serves until it gets a signal

    GET /                   an empty page, from which scripts of any origin may be run
    GET /scenarios          the table, as JSON
    GET /facts/ID           what the stream's connections said: {connections, hellos, tokens, frames, open, closing}
    GET /away/MS            every connection breaks and nobody listens, for so many milliseconds
    GET /clients/browser/X  a file of the browser's client
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from websockets.datastructures import Headers
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

sys.path.insert(0, str(Path(__file__).parent))
from hostile_scenarios import READY, SCENARIOS, result

ROOT = Path(__file__).parents[2]
MAX_FRAME_BYTES = 32 << 20
JPEG = b"\xff\xd8 picture \xff\xd9"


class Gone(Exception):
    """The client has closed the connection, or it broke."""


@dataclass
class Facts:
    """What the connections of one stream said so far."""

    connections: int = 0
    hellos: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """As offered, in base64."""
    frames: int = 0
    open: int = 0
    """Connections whose client has not gone yet."""
    closing: int = 0
    """Connections that the server has said it closes."""


class Peer:
    """The server's end of one connection, in the hands of a scenario."""

    def __init__(
        self, request: Request, protocol: ServerProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request, self.protocol, self.reader, self.writer = request, protocol, reader, writer
        self.facts = Facts()
        self.nth = 0  # which connection of this stream, from 1
        self._messages: asyncio.Queue[Frame] = asyncio.Queue()
        self._closing = False

    async def accept(self, subprotocol: str | None = "", **headers: str) -> None:
        """Answer the handshake; "" echoes the first subprotocol offered, None echoes none."""
        response = self.protocol.accept(self.request)
        if subprotocol == "":
            subprotocol = self.offered()[0]
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        self.protocol.send_response(response)
        await self.flush()

    def offered(self) -> list[str]:
        """Subprotocols that the client offered."""
        return [name.strip() for name in self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")]

    async def refuse(self, status: int, body: str = "no\n", **headers: str) -> None:
        """Answer the handshake with an HTTP status."""
        response = self.protocol.reject(status, body)
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        self.protocol.send_response(response)
        await self.flush()

    async def hello(self) -> dict[str, Any]:
        """Read the client's first message."""
        said: dict[str, Any] = json.loads((await self.message()).data)
        self.facts.hellos.append(said)
        return said

    async def open(self, **ready: Any) -> dict[str, Any]:
        """Accept, read hello, say ready; returns the hello."""
        await self.accept()
        said = await self.hello()
        await self.say(**READY | {"stream_id": self.stream_id} | ready)
        return said

    @property
    def stream_id(self) -> str:
        """As it stands in the path."""
        return self.request.path.split("?")[0].split("/")[-2]

    async def frame(self) -> int:
        """Read the next frame; returns its seq. Gone when the client has said bye: it was closed with 1000."""
        message = await self.message()
        if message.opcode is Opcode.TEXT:
            await self.close(1000)
            raise Gone
        self.facts.frames += 1
        return int.from_bytes(message.data[4:8], "little")

    async def serve(self, frames: int | None = None) -> None:
        """Answer so many frames as a good server does; None: until the client goes."""
        while frames is None or frames > 0:
            seq = await self.frame()
            await self.say(**result(seq))
            frames = None if frames is None else frames - 1

    async def message(self) -> Frame:
        """The client's next message; Gone if none will come."""
        while self._messages.empty():
            data = await self.reader.read(1 << 16)
            if not data:
                raise Gone
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                    self._messages.put_nowait(event)
                elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                    if not self._closing:  # the answer to our own close is not answered once more
                        await self.flush()
                    raise Gone
            await self.flush()
        return self._messages.get_nowait()

    async def until_gone(self) -> None:
        """Read and forget what the client says, until it goes. Pings are answered."""
        while True:
            await self.message()

    async def say(self, **fields: Any) -> None:
        """Send a message as JSON."""
        await self.text(json.dumps(fields).encode())

    async def text(self, data: bytes, *, end: bool = True) -> None:
        """Send a text message of any bytes; or, without `end`, its beginning."""
        await self.raw(Frame(Opcode.TEXT, data, fin=end).serialize(mask=False))

    async def more(self, data: bytes, *, end: bool = False) -> None:
        """Send the next part of a message that was begun."""
        await self.raw(Frame(Opcode.CONT, data, fin=end).serialize(mask=False))

    async def binary(self, data: bytes) -> None:
        """Send a binary message."""
        await self.raw(Frame(Opcode.BINARY, data).serialize(mask=False))

    async def annotated(self, seq: int) -> None:
        """Send an annotated frame."""
        await self.binary(b"\x01\x02\x00\x00" + seq.to_bytes(4, "little") + bytes(8) + JPEG)

    async def close(self, code: int, reason: str = "", after: bytes = b"") -> None:
        """Close, with any code, in one go with the bytes before it; the client's own close is awaited."""
        self._closing = True
        await self.raw(after + Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False))
        self.facts.closing += 1
        with suppress(Gone, asyncio.TimeoutError):
            await asyncio.wait_for(self.until_gone(), 5)

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes, pause_s: float) -> None:
        """Send bytes one by one."""
        for at in range(len(data)):
            await self.raw(data[at : at + 1])
            await asyncio.sleep(pause_s)

    async def stop_reading(self) -> None:
        """Neither read nor write again, without a word, until the connection is broken by the other end or `away`."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    def abort(self) -> None:
        """Break the connection with a reset."""
        self.writer.transport.abort()

    async def flush(self) -> None:
        """Send what the protocol has to say: handshake, pongs, the answer to a close."""
        for data in self.protocol.data_to_send():
            if data:
                await self.raw(data)


class HostileServer:
    """Listens on 127.0.0.1; one event loop serves all. tls : None for plain connections"""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.port = 0
        self.facts: dict[str, Facts] = {}
        self.mistakes: list[Exception] = []
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._listener: asyncio.Server | None = None
        self._away: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port that it had."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20, ssl=self.tls)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break every connection, and listen no more."""
        assert self._listener is not None
        self._listener.close()
        ended = list(self._tasks.items())
        for task, writer in ended:
            if task is not asyncio.current_task():
                writer.transport.abort()
                task.cancel()
        await asyncio.gather(*(task for task, _ in ended if task is not asyncio.current_task()), return_exceptions=True)

    async def away(self, seconds: float) -> None:
        """Be gone for so long."""
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        try:
            await self._connection(reader, writer)
        except (Gone, ConnectionError, EOFError, asyncio.CancelledError):
            pass
        except Exception as error:  # a mistake here would look to the client like one more broken connection
            self.mistakes.append(error)
            raise
        finally:
            del self._tasks[task]
            writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol(
            subprotocols=[Subprotocol("afterimage.v1")],
            select_subprotocol=lambda _, offered: None,
            max_size=MAX_FRAME_BYTES,
        )
        first = await reader.readuntil(b"\r\n")
        path = first.split(b" ")[1].decode()
        if path.endswith("/ws"):
            stream_id = path.split("/")[-2]
            facts = self.facts.setdefault(stream_id, Facts())
            facts.connections += 1
            facts.open += 1
            try:
                head = first + await reader.readuntil(b"\r\n\r\n")
                protocol.receive_data(head)
                (request,) = protocol.events_received()
                peer = Peer(request, protocol, reader, writer)
                peer.facts, peer.nth = facts, facts.connections
                facts.tokens += [name.rpartition(".")[2] for name in peer.offered() if "bearer" in name]
                await SCENARIOS[stream_id.split("-")[0]].play(peer)
            finally:
                facts.open -= 1
        else:
            await reader.readuntil(b"\r\n\r\n")
            status, kind, body = self._answer(path)
            head = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Access-Control-Allow-Origin": "*"})
            head["Connection"] = "close"
            writer.write(f"HTTP/1.1 {status}\r\n".encode() + head.serialize() + body)
            await writer.drain()

    def _answer(self, path: str) -> tuple[str, str, bytes]:
        """Status, content type and body of a page."""
        name = path.rpartition("/")[2]
        if path == "/":
            return "200 OK", "text/html; charset=utf-8", b"<!doctype html><title>hostile</title>"
        if path == "/scenarios":
            table = {
                name: {"what": s.what, "then": s.then, "code": s.code, "slow": s.slow} for name, s in SCENARIOS.items()
            }
            return "200 OK", "application/json", json.dumps(table).encode()
        if path.startswith("/facts/"):
            return "200 OK", "application/json", json.dumps(asdict(self.facts.get(name, Facts()))).encode()
        if path.startswith("/away/"):
            self._away = asyncio.get_running_loop().create_task(self._leave(int(name) / 1000))
            return "200 OK", "text/plain", b"soon\n"
        script = ROOT / "clients/browser" / name
        if path == f"/clients/browser/{name}" and script.suffix in (".js", ".mjs") and script.is_file():
            return "200 OK", "text/javascript", script.read_bytes()
        return "404 Not Found", "text/plain", b"not here\n"

    async def _leave(self, seconds: float) -> None:
        await asyncio.sleep(0.05)  # the answer to the request goes out first
        await self.away(seconds)


class RunningHostileServer(HostileServer):
    """In a thread of its own; the methods here may be called from another."""

    loop: asyncio.AbstractEventLoop

    def leave(self, seconds: float) -> None:
        """Be gone for so long; returns once nobody listens."""
        asyncio.run_coroutine_threadsafe(self.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self._come_back, seconds)

    def _come_back(self, seconds: float) -> None:
        self._away = self.loop.create_task(self._later(seconds))

    async def _later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.start()


@contextmanager
def hostile_server(tls: ssl.SSLContext | None = None) -> Iterator[RunningHostileServer]:
    """A running hostile server."""
    server = RunningHostileServer(tls)
    started, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        server.loop = asyncio.get_running_loop()
        await server.start()
        started.set()
        await ended.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="hostile", daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        server.loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        assert not thread.is_alive(), "the hostile server did not stop"
    assert not server.mistakes, "a scenario has a mistake of its own"


async def _serve() -> None:
    server = HostileServer()
    await server.start()
    print(server.port, flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_serve())
