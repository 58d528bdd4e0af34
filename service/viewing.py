"""Pictures of streams for those who look: the last frame of each, and viewers that get the newest one.

Nothing is drawn or encoded until somebody asks, and then once for all who ask for the same. Lives on the event loop;
pictures are made in threads, `DRAWERS` at a time. A viewer that is slow misses frames, and holds nobody.

Bounds: viewers by number, in all and of a stream; pixels that are kept by `keep_bytes`: those of streams that nobody
asked for go first, then those asked for longest ago, and their next frame is kept again once somebody asks; pictures of
one frame by `MAX_LOOKS`. Beyond that each viewer holds the newest frame, and who draws one that.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from clients.wire import Changes, Detection
from service import codec
from service.annotate import annotate
from service.pipeline import Outcome, changes_of
from service.streams import Stream, StreamState
from service.threads import in_thread

Image: TypeAlias = NDArray[np.uint8]

DRAWERS = 2
MAX_LOOKS = 8


class TooManyViewers(RuntimeError):
    """As many look as the settings allow, at all streams together."""


class TooManyOfStream(TooManyViewers):
    """As many look as the settings allow, at one stream."""


class Listener(Protocol):
    """Is told of every frame, on the event loop; must return at once."""

    def seen(self, stream: Stream, outcome: Outcome) -> None:
        """A frame was computed."""

    def gone(self, stream: Stream) -> None:
        """The stream is no more."""


@dataclass(frozen=True)
class Look:
    """How a picture is drawn. changes : with what was recomputed. width : at most, pixels; None: as it is."""

    boxes: bool = True
    changes: bool = False
    width: int | None = None


@dataclass(eq=False)
class Shown:
    """A frame as it was computed. number : counted from 1 in its stream, unless its sender's number is known.

    at : Unix time, seconds.
    """

    number: int
    image: Image
    outcome: Outcome
    at: float
    pictures: dict[Look, asyncio.Task[bytes]] = field(default_factory=dict)


class Viewer:
    """One who looks at a stream; made by `Viewing.watch`. Holds one frame, whatever is kept of the stream."""

    def __init__(self) -> None:
        self._newest: Shown | None = None
        self._last: Shown | None = None
        self._news = asyncio.Event()
        self._over = asyncio.Event()

    async def next(self) -> Shown | None:
        """The newest frame, once it is another than the one before; None when there will be no more."""
        while not self._over.is_set():
            newest = self._newest
            if newest is not None and newest is not self._last:
                self._last = newest
                return newest
            self._news.clear()
            await self._news.wait()
        return None

    async def newer_within(self, seconds: float) -> bool:
        """Whether `next` has something to give within so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._newest is self._last and not self._over.is_set():
                    self._news.clear()
                    await self._news.wait()
        return self._newest is not self._last or self._over.is_set()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the end."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()

    def offer(self, shown: Shown) -> None:
        """There is a newer frame."""
        self._newest = shown
        self._news.set()

    def end(self) -> None:
        """There will be no more."""
        self._over.set()
        self._news.set()


class _Board:
    """What is kept of one stream."""

    def __init__(self) -> None:
        self.count = 0
        self.last: Shown | None = None
        self.viewers: set[Viewer] = set()
        self.asked_s = -math.inf

    @property
    def nbytes(self) -> int:
        return 0 if self.last is None else self.last.image.nbytes

    @property
    def worth(self) -> tuple[bool, float, float]:
        """What has least of it is let go first."""
        return bool(self.viewers), self.asked_s, self.last.at if self.last is not None else 0.0


class Viewing:
    """All that is shown of a service's streams. Use on the event loop only.

    keep_bytes : of pixels. quality : of JPEGs, 1 to 100. clock : seconds that only grow. wall : Unix time, seconds.
    """

    def __init__(
        self,
        *,
        max_viewers: int,
        max_per_stream: int,
        keep_bytes: int,
        quality: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.listeners: list[Listener] = []
        self.refused = 0
        self.drawn = 0
        self.kept_bytes = 0
        self._max_viewers, self._max_per_stream = max_viewers, max_per_stream
        self._keep_bytes, self._quality = keep_bytes, quality
        self._clock, self._wall = clock, wall
        self._boards: dict[str, _Board] = {}
        self._drawers = asyncio.Semaphore(DRAWERS)
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many look now."""
        return sum(len(board.viewers) for board in self._boards.values())

    def publish(self, stream: Stream, image: Image, outcome: Outcome, number: int | None = None) -> None:
        """Show a frame of a stream: uint8[H, W, 3] BGR, which nobody writes to any more.

        number : its sender's; None: it is counted here. Costs a few microseconds where nobody looks.
        """
        if stream.state is StreamState.GONE or self._closed:
            return  # of a frame that was under way: it must not outlive its stream
        board = self._boards.setdefault(stream.id, _Board())
        board.count += 1
        self._let_go(board)
        board.last = shown = Shown(board.count if number is None else number, image, outcome, self._wall())
        for viewer in board.viewers:
            viewer.offer(shown)
        self.kept_bytes += board.nbytes
        while self.kept_bytes > self._keep_bytes:
            self._let_go(min((board for board in self._boards.values() if board.last), key=lambda board: board.worth))
        for listener in self.listeners:
            listener.seen(stream, outcome)

    def forget(self, stream: Stream) -> None:
        """The stream is no more: its viewers' pictures end, and nothing of it is kept."""
        board = self._boards.pop(stream.id, None)
        if board is not None:
            self._let_go(board)
            for viewer in board.viewers:
                viewer.end()
        for listener in self.listeners:
            listener.gone(stream)

    def close(self) -> None:
        """The server stops: all pictures end."""
        self._closed = True
        for board in self._boards.values():
            for viewer in board.viewers:
                viewer.end()

    def last(self, stream: Stream) -> Shown | None:
        """The stream's last frame; None where there was none, or it is not kept."""
        board = self._boards.get(stream.id)
        if board is None:
            return None
        board.asked_s = self._clock()
        return board.last

    @contextmanager
    def watch(self, stream: Stream) -> Iterator[Viewer]:
        """Look at a stream while this is entered. Raises TooManyOfStream, TooManyViewers."""
        if stream.state is StreamState.GONE:  # a board of its id would be another stream's
            viewer = Viewer()
            viewer.end()
            yield viewer
            return
        board = self._boards.setdefault(stream.id, _Board())
        if len(board.viewers) >= self._max_per_stream:
            self.refused += 1
            raise TooManyOfStream(f"expected at most {self._max_per_stream} viewers of one stream")
        if self.viewers >= self._max_viewers:
            self.refused += 1
            raise TooManyViewers(f"expected at most {self._max_viewers} viewers")
        viewer = Viewer()
        if board.last is not None:
            viewer.offer(board.last)
        board.asked_s = self._clock()
        board.viewers.add(viewer)
        if self._closed:
            viewer.end()
        try:
            yield viewer
        finally:
            board.asked_s = self._clock()
            board.viewers.discard(viewer)

    async def picture(self, shown: Shown, look: Look) -> bytes:
        """The frame as a JPEG; drawn once for all who ask for the same."""
        task = shown.pictures.get(look)
        if task is None:
            if len(shown.pictures) >= MAX_LOOKS:
                del shown.pictures[next(iter(shown.pictures))]
            task = shown.pictures[look] = asyncio.create_task(self._draw(shown, look), name="afterimage-picture")
        return await asyncio.shield(task)

    async def _draw(self, shown: Shown, look: Look) -> bytes:
        async with self._drawers:
            self.drawn += 1
            return await in_thread(lambda: draw(shown.image, shown.outcome, look, self._quality), "afterimage-draw")

    def _let_go(self, board: _Board) -> None:
        self.kept_bytes -= board.nbytes
        board.last = None


def draw(image: Image, outcome: Outcome, look: Look, quality: int) -> bytes:
    """JPEG of a frame, scaled down before it is drawn on, so that captions can be read."""
    factor = 1.0 if look.width is None else min(1.0, look.width / image.shape[1])
    if factor < 1.0:
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    changes = None
    if look.changes and outcome.recomputed is not None:
        changes = _scaled_changes(changes_of(outcome.recomputed), factor)
    found = outcome.found
    boxes = [_scaled_box(box, factor) for box in found.detections or ()] if look.boxes else None
    classes = found.classes if look.boxes else None
    if look.boxes or changes is not None:
        image = annotate(image, boxes, classes, changes, outcome.compute_fraction)
    return codec.encode_jpeg(image, quality)


def _scaled_box(box: Detection, factor: float) -> Detection:
    if factor == 1.0:
        return box
    points = None if box.keypoints is None else tuple((x * factor, y * factor, seen) for x, y, seen in box.keypoints)
    return msgspec.structs.replace(box, xyxy=_times(box.xyxy, factor), keypoints=points)


def _scaled_changes(changes: Changes, factor: float) -> Changes:
    return changes if factor == 1.0 else msgspec.structs.replace(changes, xyxy=_times(changes.xyxy, factor))


def _times(xyxy: tuple[float, float, float, float], factor: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = xyxy
    return left * factor, top * factor, right * factor, bottom * factor
