"""Binary messages: a 16-byte little-endian header, then an encoded image. No sockets, no image decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from .errors import ErrorCode, WireError
from .tiles import parse_tiles

VERSION = 1
HEADER_BYTES = 16
MAX_SEQ = 0xFFFF_FFFF
MAX_CAPTURE_TS_US = 0xFFFF_FFFF_FFFF_FFFF

_HEADER = struct.Struct("<BBHIQ")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Op(IntEnum):
    """What a binary message carries."""

    IMAGE = 1  # client to server: one frame, whole, in the content type that hello named
    ANNOTATED = 2  # server to client: the frame with its boxes drawn, JPEG
    TILES = 3  # client to server: the tiles of a frame that changed (`clients.wire.tiles`)


class Flags(IntFlag):
    """Flag bits of the header; bits that are not named here must be zero."""

    NONE = 0
    RESET = 1  # forget what is cached: this frame is computed in full


_KNOWN_FLAGS = int(Flags.RESET)


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One binary message.

    `seq` is 1..2**32-1 and increases within a connection; `capture_ts_us` is the sender's own clock in
    microseconds, given back unchanged; `payload` is the encoded image, or for op 3 what `clients.wire.tiles` encodes.
    """

    op: Op
    flags: Flags
    seq: int
    capture_ts_us: int
    payload: bytes

    def __str__(self) -> str:
        return f"{self.op.name} seq={self.seq} flags={int(self.flags)} [{len(self.payload)} bytes]"


def encode_frame(frame: FrameMessage) -> bytes:
    """Return header and payload of `frame` as one message; WireError for a field out of range."""
    if not 1 <= frame.seq <= MAX_SEQ:
        raise WireError(ErrorCode.BAD_SEQ, f"expected seq in 1..{MAX_SEQ}, got {frame.seq}")
    if not 0 <= frame.capture_ts_us <= MAX_CAPTURE_TS_US:
        raise WireError(ErrorCode.BAD_MESSAGE, f"expected a 64-bit capture_ts_us, got {frame.capture_ts_us}")
    if not frame.payload:
        raise WireError(ErrorCode.EMPTY_PAYLOAD, "expected an image after the header, got nothing", frame.seq)
    header = _HEADER.pack(VERSION, frame.op, frame.flags, frame.seq, frame.capture_ts_us)
    return header + frame.payload


def decode_frame(data: bytes) -> FrameMessage:
    """Parse one binary message, whose image, or mosaic, must be whole (see `image_type`); WireError otherwise."""
    if not data:
        raise WireError(ErrorCode.EMPTY_MESSAGE, "expected a binary message, got 0 bytes")
    if len(data) < HEADER_BYTES:
        raise WireError(
            ErrorCode.TRUNCATED, f"expected a header of {HEADER_BYTES} bytes, got {len(data)}", _seq_of(data)
        )
    version, op, flags, seq, capture_ts_us = _HEADER.unpack_from(data)
    if version != VERSION:
        raise WireError(ErrorCode.BAD_VERSION, f"expected version {VERSION}, got {version}")
    if seq == 0:
        raise WireError(ErrorCode.BAD_SEQ, "expected seq of 1 or more, got 0")
    if op not in (Op.IMAGE, Op.ANNOTATED, Op.TILES):
        raise WireError(ErrorCode.UNKNOWN_OP, f"expected op 1 (image), 2 (annotated) or 3 (tiles), got {op}", seq)
    if flags & ~_KNOWN_FLAGS:
        raise WireError(ErrorCode.BAD_FLAGS, f"expected only flag bits {_KNOWN_FLAGS:#06x}, got {flags:#06x}", seq)
    if len(data) == HEADER_BYTES:
        raise WireError(ErrorCode.EMPTY_PAYLOAD, "expected an image after the header, got nothing", seq)
    payload = data[HEADER_BYTES:]
    try:
        image = parse_tiles(payload).image if op == Op.TILES else payload
        if image or op != Op.TILES:
            image_type(image)
    except WireError as error:
        raise WireError(error.code, error.detail, seq) from None
    return FrameMessage(Op(op), Flags(flags), seq, capture_ts_us, payload)


def image_type(data: bytes) -> str:
    """Content type of an encoded image that is whole: image/jpeg, image/png or image/webp.

    Looks at the container's first and last bytes only. Decoders paint what is missing of a cut image grey,
    which would then be taken for a change of the scene; so a cut image is refused here. Zero bytes after a
    JPEG's end are allowed: cameras pad with them.
    """
    if data.startswith(b"\xff\xd8"):
        if data.endswith(b"\xff\xd9") or data.rstrip(b"\x00").endswith(b"\xff\xd9"):
            return "image/jpeg"
        raise WireError(ErrorCode.INCOMPLETE_IMAGE, f"JPEG of {len(data)} bytes has no end marker: cut short")
    if data.startswith(_PNG_SIGNATURE):
        if data.endswith(_PNG_END):
            return "image/png"
        raise WireError(ErrorCode.INCOMPLETE_IMAGE, f"PNG of {len(data)} bytes has no IEND chunk: cut short")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        expected = int.from_bytes(data[4:8], "little") + 8
        if len(data) in (expected, expected + 1):
            return "image/webp"
        raise WireError(ErrorCode.INCOMPLETE_IMAGE, f"WebP says {expected} bytes, got {len(data)}")
    start = data[:8].hex(" ") or "nothing"
    raise WireError(ErrorCode.BAD_IMAGE, f"expected a JPEG, PNG or WebP image, got {len(data)} bytes: {start}")


def _seq_of(data: bytes) -> int | None:
    """Sequence number in a cut header, where it came that far and the version is ours."""
    if len(data) >= 8 and data[0] == VERSION:
        return int.from_bytes(data[4:8], "little") or None
    return None
