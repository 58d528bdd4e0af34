"""A port on which TLS is spoken, and plain HTTP is told so: by the first byte that comes, before any of it is read.

A plain request gets a redirect to https, or a refusal; nothing of it reaches the app. Handshakes that are not finished
are counted and have a time limit, which uvicorn does not give them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import cast

import uvicorn

from service.http_guard import Gate, refusal

log = logging.getLogger("afterimage.http")

TLS_HANDSHAKE = b"\x16"
"""Type of the record that every TLS connection begins with (RFC 8446, 5.1)."""
MAX_PLAIN_BYTES = 4096
LINGER_S = 1.0
GOODBYE_S = 1.0
"""Wait for the peer's end of TLS at the end: browsers do not look at connections that they keep for later."""
RETRY_S = 0.2
"""Wait after a connection could not be accepted: there are no more file descriptors for now."""


class Door:
    """Accepts the connections of one listening socket until it is closed; the socket is its owner's.

    make_protocol : for a connection whose handshake is done
    gate : counts the connections whose handshake is not
    timeout_s : for the first byte, and again for the handshake, seconds
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        gate: Gate,
        timeout_s: float,
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._make_protocol = make_protocol
        self._context = context
        self._gate = gate
        self._timeout_s = timeout_s
        self._greeting: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="afterimage-door")

    def close(self) -> None:
        """Accept no more, and drop the connections that are not through yet. Like a server of asyncio."""
        for task in (self._accepting, *self._greeting):
            task.cancel()

    async def wait_closed(self) -> None:
        """Until `close` has taken effect."""
        await asyncio.gather(self._accepting, *self._greeting, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        failing = False
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listener)
            except OSError as error:
                if not failing:  # once, until it recovers
                    log.warning("a connection could not be accepted: %s", error.strerror)
                failing = True
                await asyncio.sleep(RETRY_S)
                continue
            failing = False
            host = str(peer[0])
            refused = self._gate.enter(host)
            if refused is not None:
                self._gate.leave(host)
                connection.close()
                continue
            task = loop.create_task(self._greet(connection, host))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: socket.socket, host: str) -> None:
        handed_over = False
        try:
            async with asyncio.timeout(self._timeout_s):
                first = await _first_byte(connection)
            if first == TLS_HANDSHAKE:
                handed_over = True  # a transport closes it, whatever comes
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._make_protocol,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=self._timeout_s,
                    ssl_shutdown_timeout=GOODBYE_S,
                )
            elif first:
                async with asyncio.timeout(self._timeout_s):
                    await _answer_plainly(connection)
        except (OSError, TimeoutError) as error:  # an SSLError is an OSError; a browser that does not trust us ends so
            log.debug("a handshake failed: %s", error)
        finally:
            self._gate.leave(host)
            if not handed_over:
                connection.close()


def open_doors(
    server: uvicorn.Server, listeners: list[socket.socket], context: ssl.SSLContext, gate: Gate
) -> list[asyncio.Server]:
    """A door to uvicorn's protocol for each socket, in place of uvicorn's own servers, which it closes at its end."""
    config = server.config

    def make_protocol() -> asyncio.Protocol:
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )

    doors = [Door(listener, make_protocol, context, gate, gate.header_timeout_s) for listener in listeners]
    return cast(list[asyncio.Server], doors)


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte, left where it is; empty where the peer has gone."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


async def _answer_plainly(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    request = await loop.sock_recv(connection, MAX_PLAIN_BYTES)
    await loop.sock_sendall(connection, plain_answer(request, connection.getsockname()))
    connection.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):  # closing over unread bytes would take back the answer
            while await loop.sock_recv(connection, MAX_PLAIN_BYTES):
                pass


def plain_answer(request: bytes, local: tuple[str, int]) -> bytes:
    """What a plain HTTP request gets: browsers are sent to the page over https, everything else is refused.

    local : the address that the connection came to. Nothing of the request is repeated, for it may lie.
    """
    host, port = str(local[0]).partition("%")[0], local[1]
    page = f"https://{f'[{host}]' if ':' in host else host}:{port}/"
    if request.startswith((b"GET ", b"HEAD ")):
        # Temporary: another day the same port may speak plain HTTP.
        head = f"HTTP/1.1 307 Temporary Redirect\r\nlocation: {page}\r\ncache-control: no-store\r\n"
        return f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode("ascii")
    return refusal(400, "https_only", f"this port speaks https: {page}")
