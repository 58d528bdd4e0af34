"""The blocking client: no thread of its own; it reads the socket when asked for an event or for a credit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from socket import SHUT_RDWR
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ..wire import Phase, Policy, Ready
from .core import CLOSE_S, LISTEN_S, ClientCore, Event, FrameResult, StreamOptions, now_us, stream_url
from .errors import ClientClosed, ClientError, ConnectionFailed, Stalled
from .figures import StreamFigures
from .reconnect import CONNECTION_ERRORS, Backoff, as_refusal, asked_wait_s, end_if_closing, stay
from .route import MovedAway

if TYPE_CHECKING:
    from .tiles import Image

MAX_READS = 64
"""Messages that are taken before a frame is sent, at most, however fast they come."""


class _Connection(ClientConnection):
    """Goes where it was sent, and no further: the token is for that server alone."""

    def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().handshake(*args, **kwargs)
        except InvalidStatus as error:
            stay(error)
            raise


class StreamClient(StreamFigures):
    """One stream over one WebSocket, reconnecting by itself; for one thread.

    Use as `with StreamClient(url, "door") as client:`, then `for result in client.results(frames)`, or `send` and
    `receive`. Iterating over the client gives the events of the frames under way, until none is.
    """

    def __init__(self, url: str, stream_id: str | None = None, options: StreamOptions | None = None) -> None:
        self._options = options or StreamOptions()
        self._core = ClientCore(self._options, stream_url(url, stream_id))
        self._backoff = Backoff(self._options.reconnect)
        self._socket: ClientConnection | None = None
        self._events: deque[Event] = deque()
        self._failure: ClientError | None = None
        self.reconnections = 0
        self.skipped = 0

    def connect(self) -> Ready:
        """Open the stream and wait for the server's `ready`. Refused or ConnectionFailed if that fails."""
        while self._socket is None:
            if self._failure is not None:
                raise self._failure
            try:
                self._open()
            except CONNECTION_ERRORS as error:
                self._lost(error)
        assert self._core.ready is not None
        return self._core.ready

    def send(self, image: bytes, capture_ts_us: int | None = None, *, reset: bool = False) -> int:
        """Send an encoded image once there is a credit; returns its sequence number.

        capture_ts_us : when the frame was taken, microseconds of any clock; None is now, before any wait
        reset : have the server forget what it has cached
        Waits through reconnections; events that come meanwhile are kept for `receive`. Raises what ended the
        client, or WireError for an image that the server's limits do not allow.
        """
        return self._send_once_there_is_room(self.try_send, image, capture_ts_us, reset)

    def try_send(self, image: bytes, capture_ts_us: int | None = None, *, reset: bool = False) -> int | None:
        """Read what has come, then send an encoded image if there is a credit; None if there is not."""
        return self._send_now(lambda: self._core.frame(image, capture_ts_us, reset))

    def send_image(self, pixels: Image, capture_ts_us: int | None = None, *, reset: bool = False) -> int:
        """Encode pixels and send them, once there is a credit; returns the frame's sequence number.

        pixels : uint8[H, W, 3], BGR. With `StreamOptions.tiles` only the tiles that changed are sent, where the server
        takes them, which is least work for it at a size that fits into `ready.size`. The rest as `send`; raises
        ValueError for other pixels too, and TilesUnavailable where a module is missing.
        """
        return self._send_once_there_is_room(self.try_send_image, pixels, capture_ts_us, reset)

    def try_send_image(self, pixels: Image, capture_ts_us: int | None = None, *, reset: bool = False) -> int | None:
        """Read what has come, then send pixels as `send_image` if there is a credit; None if there is not."""
        return self._send_now(lambda: self._core.image(pixels, capture_ts_us, reset))

    def _send_once_there_is_room(
        self, attempt: Callable[..., int | None], frame: object, capture_ts_us: int | None, reset: bool
    ) -> int:
        captured_us = now_us() if capture_ts_us is None else capture_ts_us
        while True:
            self.connect()
            seq = attempt(frame, captured_us, reset=reset)
            if seq is not None:
                return seq
            self._read(None)

    def _send_now(self, number: Callable[[], tuple[int, bytes]]) -> int | None:
        """Read what has come; if there is a credit then, send what `number` gives."""
        for _ in range(MAX_READS):
            if not self._read(0.0):
                break
        if self._failure is not None:
            raise self._failure
        socket = self._socket
        if socket is None or not self.credits:
            return None
        seq, data = number()
        with suppress(ConnectionClosed):  # what the server said before is still to be read, and its end with it
            socket.send(data)
        return seq

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None when `timeout_s` seconds have passed without one, or when nothing is due.

        Nothing is due when no frame is under way and `timeout_s` is None.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            if timeout_s is None and self._core.idle:
                return None
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining < 0:
                return None
            self.connect()
            self._read(remaining)
        return self._events.popleft()

    def stream(self, frames: Iterable[bytes]) -> Iterator[Event]:
        """Send all frames and yield every event, until each frame is settled.

        With policies `latest` and `drop_newest`, a frame that finds no credit is skipped and counted in `skipped`;
        with `all` it waits.
        """
        for image in frames:
            if self._options.policy is Policy.ALL:
                self.send(image)
            elif self.try_send(image) is None:
                self.skipped += 1
                self.connect()
            while self._events:
                yield self._events.popleft()
        yield from self

    def results(self, frames: Iterable[bytes]) -> Iterator[FrameResult]:
        """`stream`, results alone; frames without one are counted in `refused`, `lost`, `skipped`, `server_dropped`."""
        return (event for event in self.stream(frames) if isinstance(event, FrameResult))

    def __iter__(self) -> Iterator[Event]:
        while (event := self.receive()) is not None:
            yield event

    def close(self, *, bye: bool = True) -> None:
        """Close the stream. With `bye` the server frees what it cached; without, a resume stays possible."""
        graceful = self._failure is None
        self._failure = self._failure or ClientClosed("the client was closed")
        socket, self._socket = self._socket, None
        if socket is None:
            return
        with suppress(ConnectionClosed, TimeoutError):
            if bye and graceful and self._core.protocol.phase is Phase.OPEN:
                socket.send(self._core.protocol.bye())
                deadline = time.monotonic() + CLOSE_S
                while (remaining := deadline - time.monotonic()) > 0:
                    socket.recv(remaining)
        socket.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        options = self._options
        opening = connect(self.url, create_connection=_Connection, **options.connection())
        socket = opening.__enter__()  # its lifetime is that of this object; `close` ends it
        try:
            self._core.accepted(socket.subprotocol)
            socket.socket.settimeout(options.ack_timeout_s)  # a server that stops reading does not hold `send` for ever
            with suppress(ConnectionClosed):  # what the server said before it closed is still to be read
                socket.send(self._core.hello())
            deadline = time.monotonic() + options.ready_timeout_s
            while self._core.protocol.phase is not Phase.OPEN:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f"the server was not ready within {options.ready_timeout_s:g} s")
                self._take(socket.recv(remaining))
        except BaseException as error:
            self._keep(self._core.connection_lost())
            _abandon(socket)
            if isinstance(error, ClientError) and not isinstance(error, MovedAway):
                self._failure = error
            raise
        self._socket = socket
        self._backoff.opened()

    def _read(self, timeout_s: float | None) -> bool:
        """Take one message; False if none came in time or the connection is gone."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (socket := self._socket) is not None:
            pause_s, late, closed = self._core.pause_s(), self._core.late, socket.protocol.close_rcvd is not None
            remaining = LISTEN_S if deadline is None or late else max(0.0, deadline - time.monotonic())
            wait_s = min(remaining, LISTEN_S if pause_s is None else pause_s, LISTEN_S)
            try:
                self._core.leave()
                if self._core.stalled():
                    raise Stalled(f"frames are under way, and none was settled for {self._options.ack_timeout_s:g} s")
                self._take(socket.recv(CLOSE_S if closed else wait_s))
                return True
            except TimeoutError:
                if not closed and socket.protocol.close_rcvd is not None:
                    continue  # what the server said before it closed may be on its way from the thread that reads
                try:
                    end_if_closing(socket.protocol)
                except ConnectionClosed as error:
                    self._lost(error)
                    return False
                if deadline is not None and not late and time.monotonic() >= deadline:
                    return False
            except (ConnectionClosed, Stalled, MovedAway) as error:
                self._lost(error)
        return False

    def _take(self, data: str | bytes) -> None:
        try:
            self._keep(self._core.receive(data))
        except MovedAway:
            raise
        except ClientError as error:
            self._failure = error
            self._drop()
            raise
        if self._core.settled:
            self._backoff.succeeded()

    def _keep(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)

    def _drop(self) -> None:
        """Let go of the connection, if there is one."""
        socket, self._socket = self._socket, None
        if socket is not None:
            self._keep(self._core.connection_lost())
            _abandon(socket)

    def _lost(self, error: Exception) -> None:
        """The connection or an attempt at it failed: wait for the next one, or raise for good. A move is no failure."""
        self._drop()
        if self._core.follows(error):
            return
        refusal = as_refusal(error, self._core.last_error)
        asked_s = max(self._core.retry_after_s, asked_wait_s(error))
        wait_s = None if refusal is not None else self._backoff.next_wait_s(asked_s, stalled=isinstance(error, Stalled))
        if wait_s is None:
            self._failure = refusal or ConnectionFailed(
                f"no connection to {self.url} after {self._backoff.failures + 1} attempts: {error}"
            )
            raise self._failure from error
        self._core.retry_after_s = 0.0
        self._core.route.lost()
        self.reconnections += 1
        time.sleep(wait_s)


def _abandon(socket: ClientConnection) -> None:
    """End a connection at once, without waiting for the other end."""
    with suppress(OSError):
        socket.socket.shutdown(SHUT_RDWR)
    socket.close()
