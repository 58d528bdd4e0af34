"""The picture that a client and the server share, where frames come as the tiles that changed (op 3).

One for each connection that offers tiles. On the event loop `take_whole` and `take_tiles` check each message against
the name of the last one that was taken, and queue it; in a worker `picture` decodes what is queued up to a frame and
pastes it, so that tiles of frames that were dropped are never lost. What cannot be kept is forgotten, and the client is
asked for a whole frame.

Threads: the event loop, and one worker at a time (that of the stream's lane). `_lock` guards the name and the queue, is
held for moments and never while something is decoded; the pictures belong to the worker.

Bounds: the queue holds `max_bytes` of tiles at most, in `QUEUED_MESSAGES` messages, and no more pixels than
`QUEUED_FRAMES` whole frames have; up to twice that where what was being decoded has to wait again for want of memory.
Whole frames in it are the bytes of frames that are read or wait, and the last one. The picture has `max_pixels` at
most, and there is one copy of it for whoever keeps it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clients.wire import TilesPayload, grid_of, reference_of
from service import codec
from service.admission import Overloaded

TILE_PX = 16
QUEUED_FRAMES = 8
QUEUED_MESSAGES = 1024

Image = NDArray[np.uint8]
Tiles = NDArray[np.bool_]


class ReferenceLost(codec.CodecError):
    """Tiles lie on a picture that the server does not have (any more): it needs a whole frame."""


@dataclass(frozen=True)
class Picture:
    """A frame put together; not to be written to.

    source : what tells the pictures of one reference from those of others. canvas : uint8[rows * tile_px, columns *
    tile_px, 3] BGR, in whose upper left it lies, until the next frame of its reference. image : uint8[H, W, 3] BGR, for
    whoever keeps it. changed : bool[rows, columns], tiles outside of which it is the picture before; None where nothing
    is known.
    """

    source: object = field(repr=False)
    canvas: Image = field(repr=False)
    image: Image = field(repr=False)
    changed: Tiles | None
    tile_px: int

    @property
    def view(self) -> Image:
        """Its part of the canvas: uint8[H, W, 3]."""
        return self.canvas[: self.image.shape[0], : self.image.shape[1]]


@dataclass(frozen=True)
class Referenced:
    """A frame that was taken, in the picture of its connection."""

    reference: Reference
    seq: int

    def picture(self) -> Picture:
        """See `Reference.picture`."""
        return self.reference.picture(self.seq)


@dataclass(frozen=True)
class _Entry:
    """What waits to be decoded: a whole frame, or tiles. nbytes, pixels : of tiles, as they came and decoded."""

    seq: int
    data: bytes | TilesPayload = field(repr=False)
    nbytes: int = 0
    pixels: int = 0


def _entry_of(seq: int, tiles: TilesPayload) -> _Entry:
    width, height = tiles.mosaic_size
    return _Entry(seq, tiles, len(tiles.image) + len(tiles.bitmap), width * height)


class Reference:
    """limits : of images. max_bytes : of tiles that wait to be decoded."""

    def __init__(self, limits: codec.Limits, max_bytes: int) -> None:
        self._limits, self._max_bytes = limits, max_bytes
        self._lock = threading.Lock()
        self._name: int | None = None
        self._size = (0, 0)
        self._queue: deque[_Entry] = deque()
        self._waiting_bytes = self._waiting_pixels = 0  # of what is queued: a sum for each message would cost too much
        self._canvas: Image | None = None  # uint8[rows * tile_px, columns * tile_px, 3]
        self._picture_size = (0, 0)
        self._image: Image | None = None  # a copy of the picture, as long as it is that
        self._changed: Tiles | None = None  # since `picture` last gave the canvas
        self._token = object()
        self.frames = self.mismatches = 0
        """Frames that came as tiles and were taken, and that were not."""

    def describe(self) -> dict[str, int]:
        """For GET /v1/streams/{id}."""
        canvas = self._canvas
        with self._lock:
            queued = self._waiting_bytes
        return {
            "frames": self.frames,
            "mismatches": self.mismatches,
            "queued_bytes": queued,
            "picture_bytes": 0 if canvas is None else canvas.nbytes,
        }

    def take_whole(self, seq: int, payload: bytes, size: tuple[int, int], unsettled: Collection[int]) -> None:
        """A whole frame has come, and its header is good: what follows lies on it.

        size : width and height by its header. unsettled : numbers of frames that still need what was queued before.
        """
        with self._lock:
            self._queue.append(_Entry(seq, payload))
            self._name, self._size = reference_of(payload), size
            self._queue = _needed(self._queue, unsettled)
            self._waiting_bytes = sum(entry.nbytes for entry in self._queue)
            self._waiting_pixels = sum(entry.pixels for entry in self._queue)

    def take_tiles(self, seq: int, payload: bytes, tiles: TilesPayload) -> str | None:
        """Tiles have come, and their mosaic's header is good. Returns why they cannot be taken; None where they are."""
        with self._lock:
            entry = _entry_of(seq, tiles)
            refusal = self._refusal(tiles, entry)
            if refusal is not None:
                self._name = None
                self.mismatches += 1
                return refusal
            self._name = reference_of(payload)
            self.frames += 1
            if tiles.columns:
                self._queue.append(entry)
                self._waiting_bytes += entry.nbytes
                self._waiting_pixels += entry.pixels
            return None

    def forget(self) -> None:
        """Take no tiles until a whole frame has come."""
        with self._lock:
            self._name = None

    def at(self, seq: int) -> Referenced:
        """A frame that was taken."""
        return Referenced(self, seq)

    def picture(self, seq: int) -> Picture:
        """Decode what came up to a frame and is not part of the picture yet. One worker at a time.

        Raises CodecError where some of it cannot be decoded; the reference is lost then. Raises Overloaded where there
        is no memory to decode it now; what is left of it then waits for the next frame.
        """
        with self._lock:
            due: list[_Entry] = []
            while self._queue and self._queue[0].seq <= seq:
                due.append(self._queue.popleft())
                self._waiting_bytes -= due[-1].nbytes
                self._waiting_pixels -= due[-1].pixels
        first = max((index for index, entry in enumerate(due) if isinstance(entry.data, bytes)), default=0)
        left = deque(due[first:])
        try:
            while left:
                self._paste(left[0].data)
                left.popleft()
            canvas = self._canvas
            if canvas is None:
                raise ReferenceLost("expected a whole frame: the picture that these tiles lie on could not be decoded")
        except Overloaded:
            self._put_back(left)
            raise
        except BaseException:
            self._lose()
            raise
        width, height = self._picture_size
        if self._image is None:
            self._image = canvas[:height, :width].copy()  # viewers draw while the next frame is pasted
        changed, self._changed = self._changed, np.zeros(grid_of(width, height, TILE_PX), np.bool_)
        return Picture(self._token, canvas, self._image, changed, TILE_PX)

    def _refusal(self, tiles: TilesPayload, entry: _Entry) -> str | None:
        expected = (self._name, *self._size, TILE_PX)
        if self._name is None:
            return "expected a whole frame first, there is nothing that tiles can lie on"
        if expected != (tiles.base, tiles.width, tiles.height, tiles.tile_px):
            held = f"{self._name:08x}, {self._size[0]}x{self._size[1]} in tiles of {TILE_PX}"
            return f"expected tiles on {held}; got {tiles.base:08x}, {tiles.width}x{tiles.height} in {tiles.tile_px}"
        if self._waiting_bytes + entry.nbytes > self._max_bytes or len(self._queue) >= QUEUED_MESSAGES:
            most = f"{self._max_bytes} bytes or {QUEUED_MESSAGES} messages"
            return f"expected a whole frame: more than {most} of tiles wait to be decoded"
        pixels = QUEUED_FRAMES * max(self._size[0] * self._size[1], TILE_PX**2)
        if self._waiting_pixels + entry.pixels > pixels:
            return f"expected a whole frame: more than {pixels} pixels of tiles wait to be decoded"
        return None

    def _put_back(self, left: deque[_Entry]) -> None:
        """What could not be decoded yet waits again, before what has come since."""
        with self._lock:
            self._queue.extendleft(reversed(left))
            self._waiting_bytes += sum(entry.nbytes for entry in left)
            self._waiting_pixels += sum(entry.pixels for entry in left)

    def _lose(self) -> None:
        """The picture is not what the client has: refuse tiles, also those that wait, until a whole frame."""
        self._canvas = self._image = self._changed = None
        with self._lock:
            if not any(isinstance(entry.data, bytes) for entry in self._queue):
                self._name = None

    def _paste(self, data: bytes | TilesPayload) -> None:
        if isinstance(data, bytes):
            image = codec.decode(data, self._limits)
            height, width = image.shape[:2]
            self._canvas, self._image, self._changed, self._picture_size = _padded(image), None, None, (width, height)
            return
        if self._canvas is None:
            raise ReferenceLost("expected a whole frame: the picture that these tiles lie on could not be decoded")
        mosaic = codec.decode(data.image, self._limits, apart=True)
        changed = unpack(data)
        paste(self._canvas, mosaic, changed, data.tile_px)
        self._image = None
        if self._changed is not None:
            self._changed |= changed


def _needed(queue: deque[_Entry], unsettled: Collection[int]) -> deque[_Entry]:
    """What is left of a queue without entries that a later whole frame replaces before any frame needs them."""
    kept: deque[_Entry] = deque()
    whole: int | None = None
    for entry in reversed(queue):
        if whole is None or any(entry.seq <= seq < whole for seq in unsettled):
            kept.appendleft(entry)
        if isinstance(entry.data, bytes):
            whole = entry.seq
    return kept


def _padded(image: Image) -> Image:
    """An image in the upper left of one of whole tiles; itself where it is that."""
    height, width = image.shape[:2]
    rows, columns = grid_of(width, height, TILE_PX)
    if (height, width) == (rows * TILE_PX, columns * TILE_PX):
        return image
    canvas = np.zeros((rows * TILE_PX, columns * TILE_PX, 3), np.uint8)
    canvas[:height, :width] = image
    return canvas


def unpack(tiles: TilesPayload) -> Tiles:
    """bool[rows, columns]: the tiles that changed."""
    rows, columns = tiles.grid
    bits = np.unpackbits(np.frombuffer(tiles.bitmap, np.uint8), count=rows * columns)
    return bits.view(np.bool_).reshape(rows, columns)


def paste(canvas: Image, mosaic: Image, changed: Tiles, tile_px: int) -> None:
    """Put the tiles of a mosaic in their places.

    canvas : uint8[rows * tile_px, columns * tile_px, 3], written to. mosaic : uint8[h, w, 3], its tiles row by row in
    the order of those that are true in `changed`, bool[rows, columns].
    """
    rows, columns = changed.shape
    places = canvas.reshape(rows, tile_px, columns, tile_px, 3)
    wide, high = mosaic.shape[1] // tile_px, mosaic.shape[0] // tile_px
    tiles = mosaic.reshape(high, tile_px, wide, tile_px, 3).transpose(0, 2, 1, 3, 4)
    at, across = np.nonzero(changed)
    index = np.arange(at.size)
    places[at, :, across] = tiles[index // wide, index % wide]
