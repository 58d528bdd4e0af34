"""Where a clip's frames come from: a video file, an image, a folder of images, or a camera.

For the command line, on files that its user chose. The server's process must not import this: containers that
strangers upload are never decoded there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from service import codec

Image: TypeAlias = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_FOLDER_STEP_NS = 40_000_000  # images of a folder carry no time: 25 a second
_OWN_LIMITS = codec.Limits(max_bytes=256 << 20, max_pixels=1 << 28)

_Pending: TypeAlias = tuple[Callable[[], Image], int]
"""A frame not yet converted to pixels, and its timestamp in ns: skipped frames cost no conversion."""


class SourceError(ValueError):
    """A source is missing or cannot be decoded; the message names it."""


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    image : uint8[H, W, 3] BGR, C-contiguous
    sequence : 0, 1, 2... over the frames handed out
    position : the frame's number in the source, from 0
    timestamp_ns : from the start of a file or folder; of the monotonic clock for a camera
    """

    image: Image
    sequence: int
    position: int
    timestamp_ns: int


class Source:
    """An open source; iterate once, close when done (or use `with`).

    fps : frames a second that the source states, or None
    total : how many frames iteration will yield, or None where it cannot be known (an estimate for a video)
    """

    def __init__(
        self,
        name: str,
        pending: Iterator[_Pending],
        close: Callable[[], None],
        *,
        fps: float | None,
        length: int | None,
        start: int,
        frames: int | None,
        every: int,
    ) -> None:
        self.name = name
        self.fps = fps
        left = None if length is None else max(0, -(-(length - start) // every))
        known = [count for count in (left, frames) if count is not None]
        self.total = min(known) if length is not None and known else None
        self._pending, self._close = pending, close
        self._start, self._frames, self._every = start, frames, every

    def __iter__(self) -> Iterator[Frame]:
        sequence = 0
        if self._frames == 0:
            return
        for position, (image, timestamp_ns) in enumerate(self._pending):
            if position < self._start or (position - self._start) % self._every:
                continue
            yield Frame(image(), sequence, position, timestamp_ns)
            sequence += 1
            if sequence == self._frames:
                return

    def close(self) -> None:
        """Release the file or the camera."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(source: str | Path | int, *, start: int = 0, frames: int | None = None, every: int = 1) -> Source:
    """Open a camera index (an int or digits), a folder of images, an image, or a video file.

    start : frames to pass over first; frames : at most so many (None: all); every : take each every-th
    Raises SourceError for a source that is missing, has no video, or cannot be opened, ValueError for a
    negative start or frames, or every below 1. Iterating raises SourceError where decoding fails.
    """
    if start < 0 or (frames is not None and frames < 0) or every < 1:
        wanted = "start and frames of 0 or more and every of 1 or more"
        raise ValueError(f"expected {wanted}, got start {start}, frames {frames}, every {every}")
    text = str(source)
    if text.isdigit() and not Path(text).exists():
        pending, close, fps, length = _camera(int(text))
    else:
        pending, close, fps, length = _stored(Path(source) if isinstance(source, Path) else Path(text))
    return Source(text, pending, close, fps=fps, length=length, start=start, frames=frames, every=every)


_Opened: TypeAlias = tuple[Iterator[_Pending], Callable[[], None], float | None, int | None]


def _stored(path: Path) -> _Opened:
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise SourceError(f"{path}: expected JPEG, PNG or WebP images in this folder, found none")
        return _images(images)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _images([path])
    return _video(path)


def _images(paths: list[Path]) -> _Opened:
    def pending() -> Iterator[_Pending]:
        for number, path in enumerate(paths):
            yield (lambda path=path: _read_image(path)), number * _FOLDER_STEP_NS  # type: ignore[misc]

    return pending(), lambda: None, None, len(paths)


def _read_image(path: Path) -> Image:
    try:
        return codec.decode(path.read_bytes(), _OWN_LIMITS)
    except codec.CodecError as error:
        raise SourceError(f"{path}: {error}") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error


def _video(path: Path) -> _Opened:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{path}: not a video that can be opened: {error.strerror or error}") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path}: expected a video stream, found none in this file")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    fps = float(stream.average_rate) if stream.average_rate else None
    length = int(stream.frames) or _length_from_duration(container, fps)
    return _decoded(path, container, fps), container.close, fps, length


def _length_from_duration(container: Any, fps: float | None) -> int | None:
    if not container.duration or fps is None:
        return None
    return int(container.duration / av.time_base * fps + 0.5)


def _decoded(path: Path, container: Any, fps: float | None) -> Iterator[_Pending]:
    """The video's frames in display order; the first one is at time 0."""
    first: int | None = None
    number = 0
    try:
        for frame in container.decode(video=0):
            if frame.pts is None or frame.time_base is None:
                stamp = round(number / (fps or 25.0) * 1e9)
            else:
                first = frame.pts if first is None else first
                stamp = round((frame.pts - first) * frame.time_base * 1_000_000_000)
            yield (lambda frame=frame: frame.to_ndarray(format="bgr24")), stamp  # type: ignore[misc]
            number += 1
    except av.FFmpegError as error:
        raise SourceError(f"{path}: frame {number} cannot be decoded: {error.strerror}") from error
    if not number:
        raise SourceError(f"{path}: expected frames, but none could be decoded")


def _camera(index: int) -> _Opened:
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"camera {index}: cannot be opened; is it connected, and free?")
    fps = float(capture.get(cv2.CAP_PROP_FPS)) or None

    def pending() -> Iterator[_Pending]:
        while True:
            if not capture.grab():
                raise SourceError(f"camera {index}: gives no more frames")
            stamp = time.monotonic_ns()
            yield (lambda: _retrieve(capture, index)), stamp

    return pending(), capture.release, fps, None


def _retrieve(capture: Any, index: int) -> Image:
    good, image = capture.retrieve()
    if not good:
        raise SourceError(f"camera {index}: a frame could not be decoded")
    pixels: Image = image
    return pixels
