"""Pixels in, messages out: whole JPEGs, or only the tiles that changed, where the server takes those. No sockets.

Needs numpy and simplejpeg (the extra `tiles`), which are imported when the first encoder is made.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ..wire import Op, TileRules, TilesPayload, encode_tiles, grid_of, reference_of
from .errors import ClientError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image: TypeAlias = NDArray[np.uint8]
    Tiles: TypeAlias = NDArray[np.bool_]
    Sums: TypeAlias = NDArray[np.uint32]

WHOLE_FROM = 0.5
"""Share of tiles from which a frame is sent whole."""
WORTHWHILE = 0.9
"""Of the last whole frame's bytes: tiles that take more are sent as a whole frame."""
NOISE_FRAMES = 8
NOISE_FACTOR = 1.5
MOST_NOISE = 4.0
"""The threshold is `NOISE_FACTOR` times the noise, at most so many times what the server says, at least just that. The
noise is the lower quartile of the differences of all tiles, the least of the last `NOISE_FRAMES` frames."""
MOST_COLUMNS = 64


class TilesUnavailable(ClientError):
    """A module that encoding pixels needs is not installed."""


@dataclass(frozen=True)
class Encoded:
    """A frame to be sent; `TileEncoder.sent` must be told if it is. tiles : how many it has; None: it is whole."""

    op: Op
    payload: bytes = field(repr=False)
    tiles: int | None
    size: tuple[int, int]
    _at_s: float = field(repr=False)
    _turn: float = field(default=0.0, repr=False)
    _frame: Image | None = field(default=None, repr=False)  # in whole tiles
    _changed: Tiles | None = field(default=None, repr=False)


class TileEncoder:
    """Of one connection. Compares each frame with what was last sent of each tile, as it was before it was encoded.

    quality : of JPEGs, 1 to 100. rules : the server's (`ready.tiles`); None: every frame is sent whole. refresh_s :
    what was not sent for so long is sent again, where it is not the same to the bit. clock : seconds, never back.
    Raises TilesUnavailable.
    """

    def __init__(
        self,
        quality: int = 80,
        rules: TileRules | None = None,
        refresh_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= quality <= 100:
            raise ValueError(f"expected a JPEG quality of 1 to 100, got {quality}")
        if not refresh_s > 0:
            raise ValueError(f"expected to refresh within more than 0 s, got {refresh_s}")
        self._np, self._jpeg = _modules()
        self._quality, self._rules, self._refresh_s, self._clock = quality, rules, refresh_s, clock
        self._name: int | None = None  # of the reference; None: the next frame is whole
        self._size = (0, 0)
        self._picture: Image | None = None  # what was last sent of each tile, in whole tiles
        self._difference: Image | None = None
        self._values: Any = None  # float32[rows, columns]: values of each tile that lie in the frame
        self._whole_bytes = 0
        self._turn, self._turn_s = 0.0, 0.0  # the next tile to be refreshed, and when that was worked out
        self._noise: deque[float] = deque(maxlen=NOISE_FRAMES)

    @property
    def threshold(self) -> float:
        """Mean absolute difference from which a tile is sent now; 0 where all frames are whole."""
        if self._rules is None:
            return 0.0
        least = self._rules.difference
        noise = min(self._noise) if len(self._noise) == NOISE_FRAMES else 0.0
        return min(max(least, NOISE_FACTOR * noise), MOST_NOISE * least)

    def forget(self) -> None:
        """The server may not have what was sent: the next frame is whole."""
        self._name = None

    def encode(self, frame: Image) -> Encoded:
        """A frame as a message's op and payload; nothing is remembered of it before `sent`.

        frame : uint8[H, W, 3], BGR. Raises ValueError for another dtype or shape.
        """
        np = self._np
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"expected a frame uint8[H, W, 3], got {frame.dtype}{list(frame.shape)}")
        frame, now = np.ascontiguousarray(frame), self._clock()
        height, width = frame.shape[:2]
        if self._rules is None:
            return Encoded(Op.IMAGE, self._encode(frame), None, (width, height), now)
        padded = self._padded(frame)
        if self._name is None or (width, height) != self._size or self._picture is None:
            return self._whole(frame, padded, now)
        sums = self._compare(frame)
        means = sums / self._values
        self._noise.append(float(np.partition(means, means.size // 4, axis=None)[means.size // 4]))
        changed = means >= self.threshold
        if changed.mean() > WHOLE_FROM:
            return self._whole(frame, padded, now)
        turn = self._refresh(changed, sums, now)
        payload = self._tiles(padded, changed)
        if len(payload) >= WORTHWHILE * self._whole_bytes:
            return self._whole(frame, padded, now)
        return Encoded(Op.TILES, payload, int(changed.sum()), (width, height), now, turn, padded, changed)

    def sent(self, encoded: Encoded) -> None:
        """What `encode` last gave is on its way: what follows lies on it."""
        if self._rules is None:
            return
        self._name = reference_of(encoded.payload)
        self._turn, self._turn_s = encoded._turn, encoded._at_s
        if encoded.tiles is None:
            self._whole_bytes = len(encoded.payload)
            self._picture, self._size = encoded._frame, encoded.size
        elif encoded._frame is not None and self._picture is not None and encoded.tiles:
            here, there = self._cut(self._picture), self._cut(encoded._frame)
            at, across = self._np.nonzero(encoded._changed)
            here[at, :, across] = there[at, :, across]

    def _whole(self, frame: Image, padded: Image, now: float) -> Encoded:
        size = (frame.shape[1], frame.shape[0])
        if padded is frame:
            padded = frame.copy()  # which is the caller's to change
        return Encoded(Op.IMAGE, self._encode(frame), None, size, now, _frame=padded)

    def _tiles(self, padded: Image, changed: Tiles) -> bytes:
        """The payload of the tiles that changed."""
        np, rules, count = self._np, self._rules, int(changed.sum())
        assert rules is not None
        assert self._name is not None
        columns, image = 0, b""
        if count:
            rows = -(-count // MOST_COLUMNS)
            columns = -(-count // rows)
            rows = -(-count // columns)
            places = np.flatnonzero(changed)
            places = np.concatenate([places, np.repeat(places[-1:], rows * columns - count)])
            at, across = np.divmod(places, changed.shape[1])
            tiles = self._cut(padded)[at, :, across].reshape(rows, columns, rules.tile_px, rules.tile_px, 3)
            mosaic = tiles.transpose(0, 2, 1, 3, 4).reshape(rows * rules.tile_px, columns * rules.tile_px, 3)
            image = self._encode(np.ascontiguousarray(mosaic))
        bitmap = np.packbits(changed).tobytes()
        return encode_tiles(TilesPayload(self._name, *self._size, rules.tile_px, columns, bitmap, image))

    def _refresh(self, changed: Tiles, sums: Sums, now: float) -> float:
        """Mark the tiles whose turn it is; returns whose turn is next."""
        end = self._turn + changed.size * min(1.0, (now - self._turn_s) / self._refresh_s)
        due = self._np.arange(math.floor(self._turn), math.floor(end)) % changed.size
        changed.reshape(-1)[due] |= sums.reshape(-1)[due] > 0
        return end % changed.size

    def _compare(self, frame: Image) -> Sums:
        """uint32[rows, columns]: the sum of absolute differences of each tile to what was last sent of it."""
        np, tile = self._np, self._tile_px
        picture, (height, width) = self._picture, frame.shape[:2]
        assert picture is not None
        if self._difference is None or self._difference.shape != picture.shape:
            self._difference = np.zeros_like(picture)
            rows, columns = (
                np.minimum(np.arange(0, n, tile) + tile, n) - np.arange(0, n, tile) for n in (height, width)
            )
            self._values = (3 * np.outer(rows, columns)).astype(np.float32)
        known, inside = picture[:height, :width], self._difference[:height, :width]
        np.subtract(np.maximum(frame, known), np.minimum(frame, known), out=inside)
        down = np.add.reduce(self._difference.reshape(-1, tile, picture.shape[1] * 3), axis=1, dtype=np.uint16)
        sums: Sums = down.reshape(down.shape[0], -1, tile * 3).sum(axis=2, dtype=np.uint32)
        return sums

    @property
    def _tile_px(self) -> int:
        assert self._rules is not None
        return self._rules.tile_px

    def _cut(self, padded: Image) -> NDArray[np.uint8]:
        """A view: uint8[rows, tile_px, columns, tile_px, 3]."""
        tile = self._tile_px
        return padded.reshape(padded.shape[0] // tile, tile, padded.shape[1] // tile, tile, 3)

    def _padded(self, frame: Image) -> Image:
        """The frame in whole tiles, its last column and row repeated; itself where it is that."""
        height, width = frame.shape[:2]
        rows, columns = grid_of(width, height, self._tile_px)
        more = rows * self._tile_px - height, columns * self._tile_px - width
        padded: Image = self._np.pad(frame, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge") if any(more) else frame
        return padded

    def _encode(self, image: Image) -> bytes:
        encoded: bytes = self._jpeg.encode_jpeg(image, self._quality, colorspace="BGR", colorsubsampling="420")
        return encoded


def _modules() -> tuple[Any, Any]:
    try:
        import numpy
        import simplejpeg
    except ImportError as error:
        raise TilesUnavailable(
            f"to send pixels, install numpy and simplejpeg, the extra `tiles`; missing: {error.name}"
        ) from error
    return numpy, simplejpeg
