"""Connections that cost too much: too many, too slow, too large a head, handshakes that break the parser behind them.

uvicorn and httptools wait for ever for a head that never ends, and take one of any size. The two protocols here are
uvicorn's own with timers and counts added; bodies are watched by `service.body_guard`, where their sizes are known.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections import Counter
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from service.access import peer_name
from service.room import Room
from service.settings import Settings

log = logging.getLogger("afterimage.http")

ABORT = "afterimage.abort"
"""Among a request's extensions: cuts its connection, whatever waits to be sent."""
MAX_URL_BYTES = 4096
MAX_HEADERS = 64
MAX_HEADER_BYTES = 4096
"""Of one name and value; a bearer subprotocol takes 0.8 KiB."""
MAX_HEAD_BYTES = 32 << 10
MAX_FRAGMENTS = 1024
"""Of one WebSocket message: empty ones take memory, and no limit on bytes counts them."""
LARGE_BYTES = 32 << 10
"""Of a WebSocket message that is not whole yet, from which what follows is counted."""
LOOK_BYTES = 1 << 20
"""Of large messages, of all connections together, after which it is asked whether there is memory for more."""
ABORT_S = 5.0
"""A peer that takes no data is cut off so long after its connection was closed."""


class Gate:
    """Counts the connections of a server, in all and by address. room : for large messages; None: one of its own."""

    def __init__(self, settings: Settings, room: Room | None = None) -> None:
        self.header_timeout_s = settings.header_timeout_s
        self._room = Room() if room is None else room
        self._unlooked_bytes = 0
        self._short: str | None = None
        self._most = settings.max_connections
        self._most_per_peer = settings.max_connections_per_peer
        self._proxies = [ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies]
        self._peers: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._peers.total()

    def enter(self, host: str) -> str | None:
        """Count a connection; why it is one too many, or None. It is counted either way, until `leave`."""
        peer = peer_name(host)
        self._peers[peer] += 1
        if self._peers[peer] > self._most_per_peer and not self._is_proxy(host):
            return f"expected at most {self._most_per_peer} connections of one address"
        if len(self) > self._most:
            return f"expected at most {self._most} connections"
        return None

    def refuse_more(self, nbytes: int) -> str | None:
        """Why so many bytes more of a large message are too many, with figures; None if they may come."""
        self._unlooked_bytes += nbytes
        if self._unlooked_bytes > LOOK_BYTES or self._short is not None:
            self._unlooked_bytes, self._short = 0, self._room.short()
        return self._short

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    def leave(self, host: str) -> None:
        """A connection that was counted is gone."""
        peer = peer_name(host)
        self._peers[peer] -= 1
        if self._peers[peer] <= 0:
            del self._peers[peer]


def _host_of(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def refusal(status: int, code: str, detail: str) -> bytes:
    """A whole HTTP response with a problem document, after which the connection is closed."""
    title = HTTPStatus(status).phrase
    problem = {"type": f"urn:afterimage:problem:{code}", "title": title, "status": status, "code": code}
    body = json.dumps({**problem, "detail": detail}).encode()
    retry = "retry-after: 1\r\n" if status in (429, 503) else ""
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
        f"cache-control: no-store\r\nx-content-type-options: nosniff\r\n{retry}connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's protocol; a request's head must come whole within a time, and within bounds.

    gate : of the server; `guarded` makes a class with it
    """

    gate: Gate

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._whole = True
        self._refused = False
        self._upgraded = False
        self._host = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and wait for a head."""
        super().connection_made(transport)
        self._host = _host_of(transport)
        reason = self.gate.enter(self._host)
        if reason is not None:
            return self._refuse(503, "too_many_connections", reason)
        self._arm(self.gate.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out, unless a WebSocket has taken it over."""
        self._disarm()
        if not self._upgraded:
            self.gate.leave(self._host)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look at how much of a head there is."""
        if self._refused or self.parser is None:
            return
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and not self._upgraded and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "head_too_large", f"expected at most {MAX_HEAD_BYTES} bytes of request line and headers")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_head, self._whole = True, False
        self._arm(self.gate.header_timeout_s)
        super().on_message_begin()
        extensions: dict[str, Any] = {ABORT: self.transport.abort}  # for answers without an end that nobody takes
        self.scope["extensions"] = extensions

    def on_headers_complete(self) -> None:
        """Check the head's size before anything is done with it."""
        self._in_head, self._head_bytes = False, 0
        self._disarm()
        sizes = [len(name) + len(value) for name, value in self.headers]
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(414, "url_too_long", f"expected at most {MAX_URL_BYTES} bytes of path and query")
        elif len(sizes) > MAX_HEADERS or max(sizes, default=0) > MAX_HEADER_BYTES or sum(sizes) > MAX_HEAD_BYTES:
            detail = f"expected at most {MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes each, {MAX_HEAD_BYTES} in all"
            self._refuse(431, "head_too_large", detail)
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Nothing is kept of a request that was refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the next one's head may follow."""
        self._in_head = self._whole = True
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for another request: uvicorn's own timer is put off by any byte, ours by a whole head alone."""
        self._in_head = self._whole  # what is left of a body that nobody read comes first
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline:
            self._arm(self.timeout_keep_alive + self.gate.header_timeout_s)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; what the WebSocket parser cannot take is answered here."""
        if self._refused:
            return
        self._upgraded = True
        try:
            super().handle_websocket_upgrade()
        except Exception as error:
            self._upgraded = False
            for other in [other for other in self.connections if other.transport is self.transport]:
                self.connections.discard(other)
            log.info("a handshake was refused: %s", type(error).__name__)
            self._refuse(400, "bad_handshake", "expected a WebSocket handshake (RFC 6455): GET, HTTP/1.1")

    def _unsupported_upgrade_warning(self) -> None:
        """Not worth a line in the log: anybody can send it."""

    def send_400_response(self, msg: str) -> None:
        """Not HTTP."""
        self._refuse(400, "bad_http", "expected an HTTP/1.1 request")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self._refused = True
        self._disarm()
        if not self.transport.is_closing():
            self.transport.write(refusal(status, code, detail))
            self.transport.close()
            self.loop.call_later(ABORT_S, self.transport.abort)

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(408, "head_too_slow", f"expected a request within {self.gate.header_timeout_s:g} s")

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, counted, with a bound on fragments and on what a peer that does not read makes us keep.

    A message that is large, and comes while memory is short, ends the connection with 1013.
    """

    gate: Gate
    _host = ""
    _message_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember whose it is: a transport of TLS does not tell any more once it was aborted."""
        self._host = _host_of(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self.gate.leave(self._host)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes, while there is memory for it."""
        self._message_bytes += len(data)
        if self._message_bytes > LARGE_BYTES and self.handshake_complete:
            reason = self.gate.refuse_more(len(data))
            if reason is not None:
                return self._cut(reason)
        super().data_received(data)

    def _cut(self, reason: str) -> None:
        self.frames = []
        if self.close_sent:  # and the peer goes on all the same
            return self.transport.abort()
        self.conn.fail(1013, reason)
        self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """A message is whole."""
        self._message_bytes = 0
        super().send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        """Take a further piece of a message; after a close nobody wants it, though it may come for some seconds."""
        if self.close_sent and not event.fin:
            self.frames = self.frames[:1]
            return
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(1009, f"expected at most {MAX_FRAGMENTS} fragments")
            return self.handle_parser_exception()
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, if the peer takes answers."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """Close; a peer that is gone takes not even that."""
        super().keepalive_timeout()
        self.loop.call_later(ABORT_S, self.transport.abort)


def guarded(gate: Gate) -> tuple[type[GuardedHttp], type[GuardedWebSocket]]:
    """The two protocols with one gate, for uvicorn's configuration."""
    http = type("GatedHttp", (GuardedHttp,), {"gate": gate})
    websocket = type("GatedWebSocket", (GuardedWebSocket,), {"gate": gate})
    return http, websocket
