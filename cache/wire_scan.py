"""Walks a serialised protobuf message before it is parsed: two bytes of a file can become two hundred in memory.

Knows the wire format and whatever descriptor it is given; keeps nothing.
"""

from __future__ import annotations

from typing import Any

from cache.model import ModelError

MAX_FIELDS = 1 << 20
"""Of all messages together: a network of 20,000 nodes has about half as many."""
MAX_DEPTH = 32
"""Messages within messages; a graph within a node's attribute is three deeper."""

_MESSAGE = 11  # FieldDescriptor.TYPE_MESSAGE
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotProtobuf(ValueError):
    """Bytes that are no message in the wire format."""


def check_fields(data: bytes, descriptor: Any, max_fields: int = MAX_FIELDS, max_depth: int = MAX_DEPTH) -> None:
    """Raise ModelError for a message of too many fields or nested too deep, NotProtobuf for none at all.

    descriptor : of the whole message; values that it has no message type for are passed over unread.
    """
    count = 0
    pending = [(0, len(data), descriptor, 1)]
    inner: dict[Any, dict[int, Any]] = {}
    while pending:
        at, end, kind, depth = pending.pop()
        if depth > max_depth:
            raise ModelError(f"model too deep: expected at most {max_depth} messages within each other")
        messages = inner.get(kind)
        if messages is None:
            messages = {f.number: f.message_type for f in kind.fields if f.type == _MESSAGE}
            inner[kind] = messages
        while at < end:
            count += 1
            if count > max_fields:
                raise ModelError(f"model too large: expected at most {max_fields} fields in its protobuf messages")
            tag, at = _varint(data, at, end)
            form = tag & 7
            if form == _BYTES:
                length, at = _varint(data, at, end)
                message = messages.get(tag >> 3)
                if message is not None and length:
                    pending.append((at, at + length, message, depth + 1))
                at += length
            elif form == _VARINT:
                _, at = _varint(data, at, end)
            elif form in (_FIXED32, _FIXED64):
                at += 4 if form == _FIXED32 else 8
            else:
                raise NotProtobuf(f"wire type {form}")
        if at > end:
            raise NotProtobuf("it ends early")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of up to 10 bytes, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotProtobuf("a number does not end")
