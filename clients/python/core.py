"""What both clients share, without I/O: options, URLs, events, and the pairing of results with frames."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit

from clients.python.errors import ServerMisbehaved
from clients.python.reconnect import Reconnect
from clients.wire import (
    Ack,
    ClientProtocol,
    Draining,
    Encoding,
    ErrorMessage,
    FrameMessage,
    Hello,
    Output,
    Policy,
    Ready,
    Result,
    WireError,
    offer_subprotocols,
)

MAX_SERVER_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class StreamOptions:
    """How to stream. The fields of the same names in `PROTOCOL.md` say more.

    token : of `POST /v1/streams`, or an API key; None on servers that take anonymous streams
    tracks : detections get a `track_id` that stays with an object from frame to frame
    changes : results say what was recomputed
    resume_s : how long the server keeps what is cached while the connection is lost, seconds; None: its default
    open_timeout_s : seconds for the handshake
    ready_timeout_s : seconds from the handshake to `ready`; a model's first use compiles it
    proxy : of `websockets.connect`: None goes direct, True uses the environment's proxy
    """

    model: str | None = None
    token: str | None = field(default=None, repr=False)
    policy: Policy = Policy.LATEST
    content_type: str = "image/jpeg"
    min_confidence: float | None = None
    max_fps: float | None = None
    idle_fps: float | None = None
    annotated: bool = False
    tracks: bool = False
    changes: bool = False
    resume_s: float | None = None
    encoding: Encoding = Encoding.JSON
    reconnect: Reconnect = field(default_factory=Reconnect)
    open_timeout_s: float = 10.0
    ready_timeout_s: float = 120.0
    proxy: str | bool | None = None

    def hello(self) -> Hello:
        """The first message of a connection."""
        content_type = self.content_type
        if content_type not in ("image/jpeg", "image/png", "image/webp"):
            raise ValueError(f"expected image/jpeg, image/png or image/webp, got {content_type!r}")
        wanted = {Output.DETECTIONS: True, Output.ANNOTATED: self.annotated, Output.TRACKS: self.tracks}
        wanted[Output.CHANGES] = self.changes
        return Hello(
            model=self.model,
            content_type=content_type,  # type: ignore[arg-type]  # narrowed by the test above
            policy=self.policy,
            max_fps=self.max_fps,
            idle_fps=self.idle_fps,
            min_confidence=self.min_confidence,
            outputs=tuple(output for output, asked in wanted.items() if asked),
            resume_s=self.resume_s,
        )

    def subprotocols(self) -> list[str]:
        """What to offer in the handshake."""
        return offer_subprotocols(self.encoding, self.token)


@dataclass(frozen=True)
class FrameResult:
    """What was found in one frame. `annotated` is a JPEG with the boxes drawn, where it was asked for."""

    seq: int
    result: Result
    round_trip_ms: float
    annotated: bytes | None = None


@dataclass(frozen=True)
class FrameRefused:
    """The server refused a frame (`seq`) or a message (None); the stream lives on."""

    seq: int | None
    code: str
    detail: str
    error_id: str | None = None


@dataclass(frozen=True)
class FramesLost:
    """The connection broke while these frames were under way: they get no result."""

    seqs: tuple[int, ...]


Event: TypeAlias = FrameResult | FrameRefused | FramesLost


def now_us() -> int:
    """When a frame is captured that is captured now: the wall clock, microseconds since 1970."""
    return time.time_ns() // 1000


def stream_url(url: str, stream_id: str | None) -> str:
    """The WebSocket address of a stream.

    `url` is the server's (http, https, ws or wss) and `stream_id` the stream, or `url` is the full `ws_url`
    that `POST /v1/streams` gave and `stream_id` is None.
    """
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.netloc:
        raise ValueError(f"expected a URL such as http://127.0.0.1:8000, got {url!r}")
    path = parts.path.rstrip("/")
    if stream_id is not None:
        path = f"{path}/v1/streams/{quote(stream_id, safe='')}/ws"
    elif not path.endswith("/ws"):
        raise ValueError(f"expected a stream's ws_url, or a stream_id beside the server's URL, got {url!r}")
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, parts.query, ""))


class ClientCore:
    """Feeds a ClientProtocol and turns its messages into events."""

    def __init__(self, options: StreamOptions) -> None:
        self.protocol = ClientProtocol(options.hello(), options.encoding)
        self.last_error: ErrorMessage | None = None
        self.retry_after_s = 0.0
        self.server_dropped = 0
        self._annotated = options.annotated
        self._sent_ns: dict[int, int] = {}
        self._waiting: Result | None = None  # a result whose annotated frame is still to come

    @property
    def ready(self) -> Ready | None:
        """The server's last `ready`."""
        return self.protocol.ready

    @property
    def idle(self) -> bool:
        """Whether every frame sent is settled and its event has been given out."""
        return not self.protocol.unacked and self._waiting is None

    def hello(self) -> str | bytes:
        """The message to open a fresh connection with."""
        self.last_error = None
        self.retry_after_s = 0.0
        return self.protocol.hello()

    def frame(self, image: bytes, capture_ts_us: int | None, reset: bool) -> tuple[int, bytes]:
        """Number a frame; returns its seq and the message to send. WireError as ClientProtocol.frame."""
        captured = now_us() if capture_ts_us is None else capture_ts_us
        seq, data = self.protocol.frame(image, captured, reset=reset)
        self._sent_ns[seq] = time.monotonic_ns()
        return seq, data

    def receive(self, data: str | bytes) -> Event | None:
        """Take a message of the server; returns what the user should see of it."""
        try:
            message = self.protocol.receive(data)
        except WireError as error:
            raise ServerMisbehaved(f"the server broke the protocol: {error}") from error
        if isinstance(message, FrameMessage):
            return self._pair(message)
        if isinstance(message, Result):
            self.server_dropped = message.dropped
            if not self._annotated:
                return self._finish(message, None)
            self._waiting = message
        elif isinstance(message, ErrorMessage):
            return self._refused(message)
        elif isinstance(message, Ack):
            self.server_dropped = message.dropped
        elif isinstance(message, Draining):
            self.retry_after_s = message.retry_after_ms / 1000
        self._forget()
        return None

    def connection_lost(self) -> FramesLost | None:
        """The connection is gone; returns the frames that were under way, if any."""
        lost = self.protocol.connection_lost()
        self._waiting = None
        self._sent_ns.clear()
        return FramesLost(lost) if lost else None

    def _refused(self, message: ErrorMessage) -> FrameRefused:
        if message.seq is None:
            self.last_error = message
            self.retry_after_s = (message.retry_after_ms or 0) / 1000
        self._forget()
        return FrameRefused(message.seq, message.code, message.detail, message.error_id)

    def _pair(self, frame: FrameMessage) -> FrameResult:
        result, self._waiting = self._waiting, None
        if result is None or result.seq != frame.seq:
            raise ServerMisbehaved(f"expected an annotated frame after its result, got seq {frame.seq} alone")
        return self._finish(result, frame.payload)

    def _finish(self, result: Result, annotated: bytes | None) -> FrameResult:
        sent = self._sent_ns.get(result.seq)
        self._forget(result.seq)
        elapsed_ms = (time.monotonic_ns() - sent) / 1e6 if sent is not None else 0.0
        return FrameResult(result.seq, result, elapsed_ms, annotated)

    def _forget(self, seq: int = 0) -> None:
        """Drop the send times of frames that are settled (dict order is that of sending)."""
        self._sent_ns.pop(seq, None)
        keep = self.protocol.unacked + (1 if self._waiting is not None else 0)
        while len(self._sent_ns) > keep:
            del self._sent_ns[next(iter(self._sent_ns))]


class StreamFigures:
    """What both clients tell of their stream, as of the last message read."""

    _core: ClientCore

    @property
    def ready(self) -> Ready | None:
        """What the server said when the stream was last opened."""
        return self._core.ready

    @property
    def credits(self) -> int:
        """How many frames can be sent at once without waiting."""
        return self._core.protocol.credits

    @property
    def unacked(self) -> int:
        """Frames sent that the server has not settled yet."""
        return self._core.protocol.unacked

    @property
    def server_dropped(self) -> int:
        """Frames that the server has settled without a result, as of the last message that says so."""
        return self._core.server_dropped
