"""The asyncio client: one background task owns the socket, users send frames and iterate over events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..wire import Phase, Policy, Ready
from .core import CLOSE_S, LISTEN_S, ClientCore, Event, FrameResult, StreamOptions, now_us, stream_url
from .errors import ClientClosed, ClientError, ConnectionFailed, Stalled
from .figures import StreamFigures
from .reconnect import CONNECTION_ERRORS, Backoff, as_refusal, asked_wait_s, end_if_closing, stay

if TYPE_CHECKING:
    from .tiles import Image

MAX_EVENTS = 64


class _Connection(ClientConnection):
    """Goes where it was sent, and no further: the token is for that server alone."""

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().handshake(*args, **kwargs)
        except InvalidStatus as error:
            stay(error)
            raise


class AsyncStreamClient(StreamFigures):
    """One stream over one WebSocket, reconnecting by itself.

    Use as `async with AsyncStreamClient(url, "door") as client:`, then `async for result in client.results(frames)`, or
    `send` and iterate over the client. Events that nobody takes hold the socket back after `MAX_EVENTS`.
    """

    def __init__(self, url: str, stream_id: str | None = None, options: StreamOptions | None = None) -> None:
        self._options = options or StreamOptions()
        self._core = ClientCore(self._options, stream_url(url, stream_id))
        self._socket: ClientConnection | None = None
        self._events: deque[Event] = deque()
        self._changed = asyncio.Condition()
        self._failure: ClientError | None = None
        self._task: asyncio.Task[None] | None = None
        self.reconnections = 0
        self.skipped = 0

    async def connect(self) -> Ready:
        """Open the stream and wait for the server's `ready`. Refused or ConnectionFailed if that fails."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="afterimage-client")
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure or self._core.protocol.phase is Phase.OPEN)
        if self._failure is not None:
            raise self._failure
        assert self._core.ready is not None
        return self._core.ready

    async def send(self, image: bytes, capture_ts_us: int | None = None, *, reset: bool = False) -> int:
        """Send an encoded image once there is a credit; returns its sequence number.

        capture_ts_us : when the frame was taken, microseconds of any clock; None is now, before any wait
        reset : have the server forget what it has cached
        Waits through reconnections. Raises what ended the client, or WireError for an image that the server's
        limits do not allow.
        """
        return await self._send_once_there_is_room(self.try_send, image, capture_ts_us, reset)

    async def try_send(self, image: bytes, capture_ts_us: int | None = None, *, reset: bool = False) -> int | None:
        """Send an encoded image if there is a credit now; None if there is not."""
        return await self._send_now(lambda: self._core.frame(image, capture_ts_us, reset))

    async def send_image(self, pixels: Image, capture_ts_us: int | None = None, *, reset: bool = False) -> int:
        """Encode pixels and send them, once there is a credit; returns the frame's sequence number.

        As `clients.python.sync.StreamClient.send_image`. Encoding takes some milliseconds of the event loop.
        """
        return await self._send_once_there_is_room(self.try_send_image, pixels, capture_ts_us, reset)

    async def try_send_image(
        self, pixels: Image, capture_ts_us: int | None = None, *, reset: bool = False
    ) -> int | None:
        """Send pixels as `send_image` if there is a credit now; None if there is not."""
        return await self._send_now(lambda: self._core.image(pixels, capture_ts_us, reset))

    async def _send_once_there_is_room(
        self, attempt: Callable[..., Awaitable[int | None]], frame: object, capture_ts_us: int | None, reset: bool
    ) -> int:
        captured_us = now_us() if capture_ts_us is None else capture_ts_us
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._failure or self.credits)
            if self._failure is not None:
                raise self._failure
            seq = await attempt(frame, captured_us, reset=reset)
            if seq is not None:
                return seq

    async def _send_now(self, number: Callable[[], tuple[int, bytes]]) -> int | None:
        if self._failure is not None:
            raise self._failure
        socket = self._socket
        if socket is None or not self.credits:
            return None
        seq, data = number()
        # A connection that is gone is the background task's affair: the frame is reported as lost.
        with suppress(ConnectionClosed):
            await socket.send(data)
        return seq

    async def stream(self, frames: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncGenerator[Event, None]:
        """Send all frames and yield every event, until each frame is settled.

        With policies `latest` and `drop_newest`, a frame that finds no credit is skipped and counted in `skipped`;
        with `all` it waits. A blocking source belongs behind an async iterator of its own thread.
        """
        sender = asyncio.create_task(self._send_all(frames), name="afterimage-sender")
        try:
            while True:
                event = await self._next_event(lambda: sender.done() and self._core.idle)
                if event is None:
                    break
                yield event
            if sender.done():
                await sender
            if self._failure is not None:
                raise self._failure
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await sender

    async def results(self, frames: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncGenerator[FrameResult, None]:
        """`stream`, results alone; frames without one are counted in `refused`, `lost`, `skipped`, `server_dropped`."""
        async with aclosing(self.stream(frames)) as events:
            async for event in events:
                if isinstance(event, FrameResult):
                    yield event

    async def close(self, *, bye: bool = True) -> None:
        """Close the stream. With `bye` the server frees what it cached; without, a resume stays possible."""
        graceful = self._failure is None
        self._failure = self._failure or ClientClosed("the client was closed")
        socket = self._socket
        if socket is not None:
            with suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    if bye and graceful and self._core.protocol.phase is Phase.OPEN:
                        await socket.send(self._core.protocol.bye())
                        await socket.wait_closed()
                    await socket.close()
            socket.transport.abort()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self._next_event(lambda: False)
        if event is not None:
            return event
        if self._failure is None or isinstance(self._failure, ClientClosed):
            raise StopAsyncIteration
        raise self._failure

    async def _next_event(self, finished: Callable[[], bool]) -> Event | None:
        """The next event, or None once there is none and the client has ended or `finished` says so."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._failure or finished())
            if not self._events:
                return None
            self._changed.notify_all()
            return self._events.popleft()

    async def _send_all(self, frames: AsyncIterable[bytes] | Iterable[bytes]) -> None:
        try:
            async for image in _as_async(frames):
                if self._options.policy is Policy.ALL or self.credits:
                    await self.send(image)
                else:
                    self.skipped += 1
                    await asyncio.sleep(0)
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _run(self) -> None:
        """Connect, read, and come back, until closed or refused for good."""
        backoff = Backoff(self._options.reconnect)
        try:
            while self._failure is None:
                try:
                    await self._one_connection(backoff)
                except CONNECTION_ERRORS as error:
                    if self._core.follows(error):
                        continue
                    refusal = as_refusal(error, self._core.last_error)
                    if refusal is not None:
                        raise refusal from error
                    wait_s = backoff.next_wait_s(
                        max(self._core.retry_after_s, asked_wait_s(error)), stalled=isinstance(error, Stalled)
                    )
                    if wait_s is None:
                        raise ConnectionFailed(
                            f"no connection to {self.url} after {backoff.failures + 1} attempts: {error}"
                        ) from error
                    self._core.retry_after_s = 0.0
                    self._core.route.lost()
                    self.reconnections += 1
                    await asyncio.sleep(wait_s)
        except ClientError as error:
            self._failure = self._failure or error
        finally:
            self._failure = self._failure or ClientClosed("the client was closed")
            async with self._changed:
                self._changed.notify_all()

    async def _one_connection(self, backoff: Backoff) -> None:
        """Open, say hello and read until the connection ends, which always raises."""
        options = self._options
        async with connect(self.url, create_connection=_Connection, **options.connection()) as socket:
            try:
                self._core.accepted(socket.subprotocol)
                with suppress(ConnectionClosed):  # what the server said before it closed is still to be read
                    await socket.send(self._core.hello())
                async with asyncio.timeout(options.ready_timeout_s):
                    while self._core.protocol.phase is not Phase.OPEN:
                        await self._take(await socket.recv())
                self._socket = socket
                backoff.opened()
                async with self._changed:
                    self._changed.notify_all()
                while True:
                    await self._take(await self._receive(socket))
                    if self._core.settled:
                        backoff.succeeded()
            except Exception:
                socket.transport.abort()  # the other end is not waited for
                raise
            finally:
                self._socket = None
                await self._put(self._core.connection_lost())

    async def _receive(self, socket: ClientConnection) -> str | bytes:
        """The next message; Stalled when what is due does not come."""
        while not self._core.stalled():
            self._core.leave()
            pause_s = self._core.pause_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S if pause_s is None else min(pause_s, LISTEN_S)):
                    return await socket.recv()
            end_if_closing(socket.protocol)
        raise Stalled(f"frames are under way, and none was settled for {self._options.ack_timeout_s:g} s")

    async def _take(self, data: str | bytes) -> None:
        await self._put(self._core.receive(data))

    async def _put(self, event: Event | None) -> None:
        async with self._changed:
            if event is not None:
                await self._changed.wait_for(lambda: len(self._events) < MAX_EVENTS or self._failure)
                self._events.append(event)
            self._changed.notify_all()


async def _as_async(frames: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(frames, AsyncIterable):
        async for image in frames:
            yield image
    else:
        for image in frames:
            yield image
