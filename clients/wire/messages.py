"""Structured messages, as JSON text or msgpack. Field names and bounds are the wire format itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from .errors import ErrorCode, WireError
from .handshake import Encoding

MAX_CLIENT_MESSAGE_BYTES = 16 * 1024

Seq: TypeAlias = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
Token: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class Policy(StrEnum):
    """What happens to frames that come faster than they are computed."""

    LATEST = "latest"  # a waiting frame is replaced by a newer one, and counted as dropped
    ALL = "all"  # nothing is dropped: the server stops reading until there is room
    DROP_NEWEST = "drop_newest"  # a frame that finds no room is dropped and counted; those that wait keep their places


class Output(StrEnum):
    """What the client wants for each frame."""

    DETECTIONS = "detections"
    ANNOTATED = "annotated"
    TRACKS = "tracks"  # detections carry a `track_id`
    CHANGES = "changes"  # results say where the picture was taken in anew, and what that meant for the network


class ResumeReason(StrEnum):
    """Why a connection that asked to resume does not."""

    EXPIRED = "expired"  # nobody was connected for longer than `resume_s`
    DELETED = "deleted"
    UNKNOWN = "unknown"  # no token of this stream, or one that newer ones have replaced; or the server was restarted
    NOT_CACHED = "not_cached"  # the stream is there, and what it had cached is not
    OTHER_MODEL = "other_model"  # this connection asks for another model


class Limits(Struct, frozen=True, kw_only=True):
    """What the server refuses to take."""

    max_message_bytes: int
    max_pixels: int


class TileRules(Struct, frozen=True, kw_only=True):
    """How a frame is cut into tiles, and which of them a client should send.

    tile_px : edge of a tile, in pixels of the frame as sent. difference : mean absolute difference of a tile's values,
    0 to 255 over its pixels and channels, from which it has changed.
    """

    tile_px: Annotated[int, Meta(ge=1, le=255)]
    difference: Annotated[float, Meta(ge=0.0, le=255.0)]


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """First message of a client. A `model` of None is the server's default, or the stream's own.

    `resume_s` asks how long what is cached is kept without a connection; `ready` has the answer. None: as it is.
    `tiles` asks to send only the tiles that changed; `ready.tiles` says whether that is offered.
    """

    model: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    content_type: Literal["image/jpeg", "image/png", "image/webp"] = "image/jpeg"
    policy: Policy = Policy.LATEST
    max_fps: Annotated[float, Meta(gt=0.0, le=1000.0)] | None = None
    min_confidence: Fraction | None = None
    outputs: Annotated[tuple[Output, ...], Meta(max_length=8)] = (Output.DETECTIONS,)
    resume: Token | None = None
    resume_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] | None = None
    idle_fps: Annotated[float, Meta(gt=0.0, le=1000.0)] | None = None
    tiles: bool = False


class Bye(Struct, frozen=True, kw_only=True, tag="bye"):
    """The client sends no more frames: the server sends the results still due, then closes with 1000.

    What is cached for an anonymous stream is freed at once; without `bye` it is kept for a resume.
    """


class Ready(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="ready"):
    """Answer to hello. `resumed` says whether what was cached before is still there; `resume_reason` why not, if asked.

    `resume_s`: how long `resume` will be good without a connection, seconds. `max_fps` is what frames are computed at,
    at most: the client's own, or the server's where that is lower. `tiles`: frames may be sent as tiles; None: they
    may not.
    """

    stream_id: str
    model: str
    policy: Policy
    window: Annotated[int, Meta(ge=1, le=1024)]
    limits: Limits
    resume: Token
    resumed: bool
    size: tuple[Count, Count]
    resume_reason: ResumeReason | None = None
    resume_s: float | None = None
    max_fps: float | None = None
    tiles: TileRules | None = None


class Timing(Struct, frozen=True, kw_only=True):
    """Milliseconds spent on one frame; `total` is from its arrival to the result's encoding."""

    queue: float
    decode: float
    diff: float
    infer: float
    total: float


class Detection(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One box in pixels of the frame as sent: (left, top, right, bottom).

    `keypoints` are (x, y, visibility 0..1), for models that have them. `track_id` is the object's number in this
    stream, where `tracks` were asked for and the object has been seen twice.
    """

    xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    label: str
    keypoints: tuple[tuple[float, float, float], ...] | None = None
    track_id: int | None = None


class ClassScore(Struct, frozen=True, kw_only=True):
    """One class of a classification, best first in its list."""

    class_id: int
    label: str
    score: float


class Mask(Struct, frozen=True, kw_only=True):
    """One class's mask, on the model's own grid.

    `counts` are run lengths, zeros first, in row-major order (rows left to right, top to bottom);
    `size` is (height, width) of the grid and the counts add up to height * width. `xyxy` is the part of the
    frame, in its pixels, that the grid covers; it reaches beyond the frame where the input was padded.
    """

    class_id: int
    label: str
    size: tuple[Count, Count]
    counts: tuple[Count, ...]
    xyxy: tuple[float, float, float, float]


class Changes(Struct, frozen=True, kw_only=True):
    """What was recomputed for a frame: tiles of the model's input, and stages of the network.

    Of a grid of `size` (rows, columns) `counts` are run lengths, tiles that were not recomputed first, in row-major
    order, which add up to rows * columns; `xyxy` is the part of the frame, in its pixels, that the grid covers; it
    reaches beyond the frame where the input was padded. `stages`: the share recomputed of each of several parts of the
    network, of equal work, from the image to the outputs.
    """

    size: tuple[Count, Count]
    counts: tuple[Count, ...]
    xyxy: tuple[float, float, float, float]
    stages: tuple[Fraction, ...]


class Tensor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output of a model of family `raw`.

    `data` is row-major, None for a value that is not finite; it is left out where it is large.
    """

    name: str
    dtype: str
    shape: tuple[Count, ...]
    data: tuple[float | None, ...] | None = None


class Audit(Struct, frozen=True, kw_only=True):
    """A frame of this stream, `age` results ago, was computed densely too: how far its result strayed.

    `error` and `allowed` are in the unit of the model's budget: for boxes and the budget `noise` the mean over boxes,
    weighted by score, of 1 - IoU + |difference of score|. `violation`: above what is allowed. The rest is of all audits
    of the stream: their number, how many were violations, means; with `confidence` the mean of error - allowed is at
    most `bound`. `factor` on the thresholds from now on; 0: frames are computed whole.
    """

    error: float
    allowed: float
    violation: bool
    age: Count
    audits: Count
    violations: Count
    mean_error: float
    mean_allowed: float
    bound: float
    confidence: float
    factor: float


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="result"):
    """What was found in frame `seq`. Every frame up to `ack` is settled: computed, dropped or refused.

    `received_ts_us` is the server's clock (microseconds since 1970) when the frame had arrived. `age_ms` is the time
    from the frame's capture to the result's encoding, where `capture_ts_us` can be read on that clock. `evicted`: what
    was cached had been freed for other streams, so that the frame was computed in full.
    """

    seq: Seq
    ack: Seq
    capture_ts_us: Count
    timing_ms: Timing
    dropped: Count
    compute_fraction: float
    changed_tiles: Count
    decision: str
    width: Count
    height: Count
    detections: tuple[Detection, ...] | None = None
    classes: tuple[ClassScore, ...] | None = None
    masks: tuple[Mask, ...] | None = None
    tensors: tuple[Tensor, ...] | None = None
    audit: Audit | None = None
    received_ts_us: Count = 0
    age_ms: float | None = None
    evicted: bool = False
    changes: Changes | None = None


class ErrorMessage(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """A refusal. With `seq`, that frame is settled; `error_id` finds the entry in the server's log."""

    code: str
    detail: str
    seq: Seq | None = None
    ack: Seq | None = None
    error_id: str | None = None
    retry_after_ms: Count | None = None


class Ack(Struct, frozen=True, kw_only=True, tag="ack"):
    """Frames up to `ack` are settled, the last without a result: it came too soon, or found no room."""

    ack: Seq
    dropped: Count


class Draining(Struct, frozen=True, kw_only=True, tag="draining"):
    """The server is about to close with 1012; come back after `retry_after_ms`."""

    retry_after_ms: Count


class Moved(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="moved"):
    """The stream belongs to another server. In the place of `ready`, or after it: then frames under way are answered.

    `ws_url`: where to connect; `clients.wire.moves.follow` says what a client takes for one. `detail` is for people.
    """

    ws_url: Annotated[str, Meta(min_length=1, max_length=2048)]
    detail: str | None = None


ClientMessage: TypeAlias = Hello | Bye
MessageT = TypeVar("MessageT", covariant=True)
ServerMessage: TypeAlias = Ready | Result | ErrorMessage | Ack | Draining | Moved

_JSON_ENCODER = msgspec.json.Encoder()
_MSGPACK_ENCODER = msgspec.msgpack.Encoder()
_CLIENT_JSON: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_CLIENT_MSGPACK: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)
_SERVER_JSON: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_SERVER_MSGPACK: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def encode_message(message: ClientMessage | ServerMessage, encoding: Encoding) -> str | bytes:
    """`message` as JSON text or msgpack bytes, to be sent as a text or a binary WebSocket message."""
    if encoding is Encoding.MSGPACK:
        return _MSGPACK_ENCODER.encode(message)
    return _JSON_ENCODER.encode(message).decode()


def decode_client_message(data: str | bytes, encoding: Encoding) -> ClientMessage:
    """Parse a client's message; WireError says which field is wrong and what was expected."""
    if len(data) > MAX_CLIENT_MESSAGE_BYTES:
        raise WireError(
            ErrorCode.MESSAGE_TOO_LARGE, f"expected at most {MAX_CLIENT_MESSAGE_BYTES} bytes, got {len(data)}"
        )
    if encoding is Encoding.MSGPACK:
        return _decode(_CLIENT_MSGPACK, data)
    return _decode(_CLIENT_JSON, data)


def decode_server_message(data: str | bytes, encoding: Encoding) -> ServerMessage:
    """Parse a server's message; WireError says which field is wrong and what was expected."""
    if encoding is Encoding.MSGPACK:
        return _decode(_SERVER_MSGPACK, data)
    return _decode(_SERVER_JSON, data)


class _Decoder(Protocol[MessageT]):
    def decode(self, data: bytes, /) -> MessageT: ...


def _decode(decoder: _Decoder[MessageT], data: str | bytes) -> MessageT:
    if not data:
        raise WireError(ErrorCode.EMPTY_MESSAGE, "expected a message, got 0 bytes")
    try:
        return decoder.decode(data.encode() if isinstance(data, str) else data)
    except RecursionError:
        raise WireError(ErrorCode.BAD_MESSAGE, "nested too deeply") from None
    except ValueError as error:  # msgspec's errors and bad UTF-8
        raise WireError(ErrorCode.BAD_MESSAGE, str(error)[:300]) from None
