"""Pictures in memory that two processes share, and the lines by which they tell each other whose a slot is.

A slot belongs to the decoder until it tells of a picture in it, and from then on to the other side, until that gives it
back. Whoever tells has written before, so that nobody reads what is being written. The memory has no name: it is gone
with the last process that has it, however that ends. Only pages that a picture has touched take memory.

A line is JSON, of `MAX_LINE_BYTES` at most. What comes from the decoder is believed no further than `Message` says.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]

SLOTS = 2
MAX_LINE_BYTES = 4096
MAX_REASON = 300
_CHANNELS = 3
_MAX_COUNT = 1 << 62


class Nonsense(ValueError):
    """The decoder sent something that it never should."""


class Slots:
    """Room for `SLOTS` pictures of max_pixels each, uint8 BGR."""

    def __init__(self, fd: int, max_pixels: int) -> None:
        self._fd = fd
        self._bytes = _slot_bytes(max_pixels)
        self._max_pixels = max_pixels
        self._memory = mmap.mmap(fd, self._bytes * SLOTS)

    @classmethod
    def make(cls, max_pixels: int) -> Slots:
        """New memory."""
        fd = _nameless()
        try:
            os.ftruncate(fd, _slot_bytes(max_pixels) * SLOTS)
            return cls(fd, max_pixels)
        except BaseException:
            os.close(fd)
            raise

    @property
    def fd(self) -> int:
        """For the other process."""
        return self._fd

    def view(self, slot: int, width: int, height: int) -> Image:
        """The picture in a slot, uint8[height, width, 3]; shares the memory. Raises Nonsense for one that cannot be."""
        if not 0 <= slot < SLOTS or width < 1 or height < 1 or width * height > self._max_pixels:
            raise Nonsense(f"expected a picture of at most {self._max_pixels} pixels in a slot, got {width}x{height}")
        flat = np.frombuffer(self._memory, np.uint8, width * height * _CHANNELS, slot * self._bytes)
        return flat.reshape(height, width, _CHANNELS)

    def close(self) -> None:
        """Give the memory back; no view may be used any more."""
        os.close(self._fd)
        self._memory.close()


@dataclass(frozen=True)
class Request:
    """What the process is to do. fd : of the slots. memory_bytes : most address space."""

    url: str = field(repr=False)
    scheme: str
    transport: str
    fd: int
    max_pixels: int
    memory_bytes: int
    max_fps: float | None
    skip_unchanged: bool

    def encode(self) -> bytes:
        """As a line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """Of a line, from whoever started the process."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Message:
    """What the decoder tells: of a picture in a slot; or, with slot -1, that it decodes; or why it ends.

    stamp_ns : when the picture was decoded, monotonic clock. decoded, unchanged : pictures so far, and those of them
    that were not handed over because they are, to the last bit, like the one before.
    """

    decoded: int = 0
    unchanged: int = 0
    slot: int = -1
    width: int = 0
    height: int = 0
    stamp_ns: int = 0
    failed: str = ""

    def encode(self) -> bytes:
        """As a line."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Message:
        """Of a line. Raises Nonsense."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise Nonsense("expected a line of JSON") from None
        names = cls.__dataclass_fields__
        if not isinstance(said, dict) or said.keys() != names.keys() or not all(map(_plausible, said.items())):
            raise Nonsense("expected the fields of a message")
        said["failed"] = "".join(c if c.isprintable() else "?" for c in said["failed"][:MAX_REASON])
        return cls(**said)


def _plausible(item: tuple[str, Any]) -> bool:
    name, value = item
    if name == "failed":
        return isinstance(value, str)
    return type(value) is int and -1 <= value < _MAX_COUNT


def _slot_bytes(max_pixels: int) -> int:
    page = mmap.ALLOCATIONGRANULARITY
    return -(-max_pixels * _CHANNELS // page) * page


def _nameless() -> int:
    """A file that has no name and is in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("afterimage-pictures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
