"""Keeps pictures: as a video file, or as JPEGs in a folder. For the command line, where its user says."""

from __future__ import annotations

import abc
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from service import codec

Image: TypeAlias = NDArray[np.uint8]

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov"})
_CODECS = ("libx264", "mpeg4")
"""The first that this installation has; both play everywhere."""
_TICKS = 90_000


class RecorderError(ValueError):
    """Pictures cannot be kept there; the message says why."""


class Recorder(abc.ABC):
    """Takes pictures in order; close when done (or use `with`), else a video is not complete.

    count : pictures kept so far
    """

    count = 0

    @abc.abstractmethod
    def add(self, image: Image, timestamp_ns: int) -> None:
        """Keep a picture, uint8[H, W, 3] BGR, taken at a time that only rises. Raises RecorderError."""

    def close(self) -> None:  # noqa: B027  # a folder has nothing to close
        """Finish."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_source(save: Path, source: str | Path) -> None:
    """Raise RecorderError if writing to `save` would destroy `source`, by whatever names or links they are given."""
    origin = Path(source)
    if save.exists() and origin.exists() and save.samefile(origin):
        raise RecorderError(f"{save}: expected another file than the source, which would be overwritten")


def write_jpeg(path: Path, image: Image) -> None:
    """Write uint8[H, W, 3] BGR as a JPEG file. Raises RecorderError, which names the file."""
    data = codec.encode_jpeg(image)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RecorderError(f"{path}: cannot be written: {error.strerror or error}") from error


def open_recorder(path: Path) -> Recorder:
    """A recorder into a video (.mp4, .mkv or .mov; replaced if it exists) or into a new or empty folder.

    Raises RecorderError for another kind of file, a folder with something in it or a missing parent, and OSError.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        if not path.absolute().parent.is_dir():
            raise RecorderError(f"{path}: no such folder: {path.parent}")
        return _Video(path)
    if path.suffix and not path.is_dir():
        expected = ", ".join(sorted(VIDEO_SUFFIXES))
        raise RecorderError(f"{path}: expected a folder, or a video file ({expected}), got {path.suffix}")
    if path.is_file():
        raise RecorderError(f"{path}: expected a folder, got a file")
    path.mkdir(exist_ok=True)
    if any(path.iterdir()):
        raise RecorderError(f"{path}: expected a new or empty folder, there is something in it")
    return _Folder(path)


class _Folder(Recorder):
    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, image: Image, timestamp_ns: int) -> None:
        write_jpeg(self._path / f"{self.count:06}.jpg", image)
        self.count += 1


class _Video(Recorder):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: Any = None
        self._begin_ns, self._last = 0, -1
        self._broken = False  # whether a write has failed: the encoder must not be touched any more
        try:
            self._container = av.open(str(path), "w")
        except (av.FFmpegError, OSError) as error:
            raise RecorderError(f"{path}: cannot be written: {error.strerror or error}") from error

    def add(self, image: Image, timestamp_ns: int) -> None:
        if self._broken:
            raise RecorderError(f"{self._path}: cannot be written: an earlier picture failed")
        if self._stream is None:
            self._begin_ns = timestamp_ns
            self._stream = self._open_stream(image)
        size = (self._stream.width, self._stream.height)
        if (image.shape[1], image.shape[0]) != size:  # sides are even, and those of the first picture
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        self._last = max(self._last + 1, (timestamp_ns - self._begin_ns) * _TICKS // 1_000_000_000)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._mux(frame)
        self.count += 1

    def close(self) -> None:
        try:
            if self._stream is not None and not self._broken:
                self._mux(None)
        finally:
            self._end()

    def _end(self) -> None:
        """Write the rest and close the file; after a failure, that one has been raised and is not raised again."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            if not self._broken:
                raise self._failed(error) from error

    def _mux(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: av.FFmpegError | OSError) -> RecorderError:
        self._broken = True
        return RecorderError(f"{self._path}: cannot be written: {error.strerror or error}")

    def _open_stream(self, image: Image) -> Any:
        name = next(name for name in _CODECS if name in av.codecs_available)
        stream: Any = self._container.add_stream(name, rate=25)
        stream.width, stream.height = (max(2, side // 2 * 2) for side in (image.shape[1], image.shape[0]))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)  # times are those of the pictures, not of the rate
        return stream
