"""What both clients share, without I/O: options, URLs, events, and the pairing of results with frames."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.typing import Subprotocol

from ..wire import (
    Ack,
    ClientProtocol,
    Draining,
    Encoding,
    ErrorMessage,
    FrameMessage,
    Hello,
    Moved,
    Op,
    Output,
    Policy,
    Ready,
    Result,
    WireError,
    offer_subprotocols,
)
from ..wire.moves import MAX_MOVES
from .errors import Refused, ServerMisbehaved
from .patience import Patience
from .reconnect import Reconnect
from .route import MovedAway, Route
from .tiles import TileEncoder

if TYPE_CHECKING:
    from .tiles import Image

MAX_SERVER_MESSAGE_BYTES = 32 * 1024 * 1024
MAX_UNREAD = 8
"""Messages that wait to be read, at most; then the socket is held back."""
MAX_NOISE = 64
"""Errors about no frame that a server may send while it settles none."""
CLOSE_S = 2.0
"""How long a good-bye may take, seconds."""
LEAVE_S = 10.0
"""How long frames that are under way when the stream moves are waited for, seconds."""
LISTEN_S = 1.0
"""How long to wait for a message before looking whether the connection is closing, seconds."""


@dataclass(frozen=True)
class StreamOptions:
    """How to stream. The fields of the same names in `PROTOCOL.md` say more.

    token : of `POST /v1/streams`, or an API key; None on servers that take anonymous streams
    tracks : detections get a `track_id` that stays with an object from frame to frame
    changes : results say what was recomputed
    resume_s : how long the server keeps what is cached while the connection is lost, seconds; None: its default
    open_timeout_s : seconds for the handshake
    ready_timeout_s : seconds from the handshake to `ready`; a model's first use compiles it
    ack_timeout_s : when frames are under way and none is settled for so long, seconds, the connection is given up for
        another one: networks change without a word. More than a frame takes to send and to compute; None: never
    moves : how often in a row the stream may be sent to another server of a cluster, which is no failure; 0: that ends
        the client. The token goes with it to whatever host the server names, but never from wss to ws
    ping_s : seconds between pings, and for each answer; finds out that an idle connection is gone. None: no pings
    tiles : have `send_image` send only the tiles that changed, where the server takes them
    quality : of the JPEGs of `send_image`, 1 to 100
    refresh_s : within which a tile that changed less than that is sent again, seconds
    proxy : of `websockets.connect`: None goes direct, True uses the environment's proxy
    tls : whom to trust, for https and wss; None: the system's certificates
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
    ack_timeout_s: float | None = 10.0
    moves: int = MAX_MOVES
    ping_s: float | None = 10.0
    proxy: str | bool | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tiles: bool = False
    quality: int = 80
    refresh_s: float = 30.0

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
            tiles=self.tiles,
        )

    def subprotocols(self) -> list[str]:
        """What to offer in the handshake."""
        return offer_subprotocols(self.encoding, self.token)

    def connection(self) -> dict[str, Any]:
        """Arguments of `websockets.connect`, beside the address."""
        return {
            "subprotocols": [Subprotocol(name) for name in self.subprotocols()],
            "compression": None,  # images are compressed already
            "open_timeout": self.open_timeout_s,
            "close_timeout": CLOSE_S,
            "ping_interval": self.ping_s,
            "ping_timeout": self.ping_s,
            "max_size": MAX_SERVER_MESSAGE_BYTES,
            "max_queue": MAX_UNREAD,
            "proxy": True if self.proxy is True else (self.proxy or None),
            **({} if self.tls is None else {"ssl": self.tls}),
        }


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

    def __init__(self, options: StreamOptions, url: str) -> None:
        self.route = Route(url, options.moves)
        self.protocol = ClientProtocol(options.hello(), options.encoding)
        self.last_error: ErrorMessage | None = None
        self.retry_after_s = 0.0
        self.server_dropped = 0
        self.settled = 0  # frames, on this connection
        self.refused = 0
        self.lost = 0
        self._patience = Patience(options.ack_timeout_s)
        self._noise = 0
        self.bytes_sent = 0
        self._options = options
        self._encoder: TileEncoder | None = None  # of this connection
        self._whole_seq = 0  # of the last whole frame
        self._annotated = options.annotated
        self._sent_ns: dict[int, int] = {}
        self._waiting: Result | None = None  # a result whose annotated frame is still to come
        self._resume: tuple[str, str] | None = None  # a token, and the address of the server that gave it
        self._leaving: MovedAway | None = None  # once nothing is under way, or at `_leave_by`
        self._leave_by = 0.0

    @property
    def ready(self) -> Ready | None:
        """The server's last `ready`."""
        return self.protocol.ready

    @property
    def idle(self) -> bool:
        """Whether every frame sent is settled and its event has been given out."""
        return not self.protocol.unacked and self._waiting is None

    def accepted(self, subprotocol: str | None) -> None:
        """Refused, unless the server echoed the subprotocol of this encoding."""
        expected = self.protocol.encoding.value
        if subprotocol != expected:
            shown = subprotocol if subprotocol in (None, *Encoding) else "another one"  # it may be the token's
            raise Refused("handshake", f"expected the subprotocol {expected}, got {shown}")

    def hello(self) -> str | bytes:
        """The message to open a fresh connection with."""
        self.last_error = self._leaving = None
        self.retry_after_s = 0.0
        self.settled = self._noise = 0
        given_at, token = self._resume or ("", None)
        self.protocol.resume_token = token if given_at == self.route.here else None  # elsewhere it would mean nothing
        return self.protocol.hello()

    def frame(self, image: bytes, capture_ts_us: int | None, reset: bool) -> tuple[int, bytes]:
        """Number a frame; returns its seq and the message to send. WireError as ClientProtocol.frame."""
        if self._encoder is not None:
            self._encoder.forget()  # what the tiles of the next picture would lie on is not known as pixels
        return self._number(image, capture_ts_us, reset, Op.IMAGE)

    def image(self, pixels: Image, capture_ts_us: int | None, reset: bool) -> tuple[int, bytes]:
        """Encode and number a frame, as tiles where that is less; returns its seq and the message to send.

        pixels : uint8[H, W, 3], BGR. Raises ValueError, TilesUnavailable, or WireError as ClientProtocol.frame.
        """
        options, ready = self._options, self.ready
        if options.content_type != "image/jpeg":
            raise ValueError(f"expected image/jpeg to send pixels, this stream is of {options.content_type}")
        if self._encoder is None:
            self._encoder = TileEncoder(options.quality, None if ready is None else ready.tiles, options.refresh_s)
        encoded = self._encoder.encode(pixels)
        seq, data = self._number(encoded.payload, capture_ts_us, reset, encoded.op)
        self._encoder.sent(encoded)
        if encoded.tiles is None:
            self._whole_seq = seq
        return seq, data

    def _number(self, payload: bytes, capture_ts_us: int | None, reset: bool, op: Op) -> tuple[int, bytes]:
        captured = now_us() if capture_ts_us is None else capture_ts_us
        if self.idle:
            self._patience.renew()
        seq, data = self.protocol.frame(payload, captured, reset=reset, op=op)
        self._sent_ns[seq] = time.monotonic_ns()
        self.bytes_sent += len(data)
        return seq, data

    def receive(self, data: str | bytes) -> Event | None:
        """Take a message of the server; returns what the user should see of it. Raises MovedAway as `leave`."""
        due = self.protocol.unacked
        try:
            message = self.protocol.receive(data)
        except WireError as error:
            raise ServerMisbehaved(f"the server broke the protocol: {error}") from error
        if self.protocol.unacked < due:
            self.settled += due - self.protocol.unacked
            self._noise = 0
            self._patience.settled()
            self.route.settled()
        if isinstance(message, FrameMessage):
            return self._pair(message)
        if isinstance(message, Result) and self._waiting is not None:
            raise ServerMisbehaved(f"expected the annotated frame {self._waiting.seq}, got result {message.seq}")
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
        elif isinstance(message, Moved):
            self._leaving, self._leave_by = self.route.check(message.ws_url), time.monotonic() + LEAVE_S
            self.leave()
        elif isinstance(message, Ready):
            self.route.opened()
            self._resume = self.route.here, message.resume
        self._forget()
        return None

    def leave(self) -> None:
        """Raise MovedAway where the stream has moved and nothing is under way here any more, or not for much longer."""
        if self._leaving is not None and (self.idle or time.monotonic() >= self._leave_by):
            raise self._leaving

    def follows(self, error: BaseException) -> bool:
        """Whether this end of a connection is a move, which is followed at once."""
        moved = error if isinstance(error, MovedAway) else self._leaving
        self._leaving = None
        return moved is not None and self.route.goes(moved)

    def pause_s(self) -> float | None:
        """How long to wait for a message before asking `stalled`, seconds; None: for ever."""
        return self._patience.pause_s(not self.idle)

    @property
    def late(self) -> bool:
        """Whether what is due is late: it is to be listened for, until `stalled`."""
        return self._patience.late

    def stalled(self) -> bool:
        """Whether what is due is so late that the connection should be given up."""
        return self._patience.is_out(not self.idle)

    def connection_lost(self) -> FramesLost | None:
        """The connection is gone; returns the frames that were under way, if any."""
        lost = self.protocol.connection_lost()
        self.lost += len(lost)
        self._patience.renew()
        self._waiting = self._encoder = None
        self._whole_seq = 0
        self._sent_ns.clear()
        return FramesLost(lost) if lost else None

    def _refused(self, message: ErrorMessage) -> FrameRefused:
        if message.seq is not None:
            self.refused += 1
            if self._encoder is not None and message.seq >= self._whole_seq:  # none that is whole was sent since
                self._encoder.forget()
        else:
            self._noise += 1
            if self._noise > MAX_NOISE:
                raise ServerMisbehaved(f"expected frames to be settled, got {self._noise} errors about none of them")
            self.last_error = message
            self.retry_after_s = (message.retry_after_ms or 0) / 1000
        self._forget()
        return FrameRefused(message.seq, message.code, message.detail, message.error_id)

    def _pair(self, frame: FrameMessage) -> FrameResult:
        result, self._waiting = self._waiting, None
        if result is None or result.seq != frame.seq:
            raise ServerMisbehaved(f"expected an annotated frame after its result, got seq {frame.seq} alone")
        self._patience.renew()
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
