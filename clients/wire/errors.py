"""Error codes, close codes and the one exception of the codec. Knows nothing of messages or sockets."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """Codes of `error` messages. A client may act on the code; the detail is for people."""

    EMPTY_MESSAGE = "empty_message"
    TRUNCATED = "truncated"
    BAD_VERSION = "bad_version"
    UNKNOWN_OP = "unknown_op"
    BAD_FLAGS = "bad_flags"
    BAD_SEQ = "bad_seq"
    EMPTY_PAYLOAD = "empty_payload"
    BAD_IMAGE = "bad_image"
    INCOMPLETE_IMAGE = "incomplete_image"
    WRONG_IMAGE_TYPE = "wrong_image_type"
    IMAGE_TOO_LARGE = "image_too_large"
    BAD_TILES = "bad_tiles"
    REFERENCE_MISMATCH = "reference_mismatch"
    BAD_MESSAGE = "bad_message"
    MESSAGE_TOO_LARGE = "message_too_large"
    HELLO_EXPECTED = "hello_expected"
    HELLO_REPEATED = "hello_repeated"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_FAILED = "model_failed"
    UNSUPPORTED_OUTPUT = "unsupported_output"
    UNAUTHORIZED = "unauthorized"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class CloseCode(IntEnum):
    """WebSocket close codes that the protocol gives a meaning (RFC 6455, section 7.4, and its registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNAUTHORIZED = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    DRAINING = 1012
    OVERLOADED = 1013


_FINAL = frozenset({CloseCode.NORMAL, CloseCode.PROTOCOL_ERROR, CloseCode.UNAUTHORIZED, CloseCode.TOO_BIG})


def is_retryable(close_code: int | None) -> bool:
    """Whether a client should reconnect after this close code; after a lost connection (None, 1006), yes."""
    return close_code is None or close_code not in _FINAL


class WireError(ValueError):
    """A message that breaks the protocol.

    `code` is machine-readable, `detail` says what was expected and what came, and `seq` is the frame's
    sequence number where the header could be read that far.
    """

    def __init__(self, code: ErrorCode, detail: str, seq: int | None = None) -> None:
        super().__init__(f"{code.value}: {detail}")
        self.code = code
        self.detail = detail
        self.seq = seq
