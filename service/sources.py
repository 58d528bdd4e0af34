"""Where a clip's frames come from: a video file, an image, a folder of images, a camera, or the built-in scene.

For the command line, on files that its user chose. The server's process must not import this: containers that
strangers upload are never decoded there. What cameras on the network send is decoded in another process here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from service import codec
from service.ingest.address import AddressError, is_address, parse
from service.ingest.camera import Camera, CameraOptions, CameraState, Status
from service.machine_cpus import default_threads
from service.scene import FPS, Scene

Image: TypeAlias = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_FOLDER_STEP_NS = 40_000_000  # images of a folder carry no time: 25 a second
_POLL_S = 0.1
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
    timestamp_ns : from the start of a file, folder or scene; of the monotonic clock for a camera
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


def open_source(
    source: str | Path | int,
    *,
    start: int = 0,
    frames: int | None = None,
    every: int = 1,
    loop: bool = False,
    told: Callable[[str], None] = lambda text: None,
) -> Source:
    """Open a camera index (an int or digits), a folder of images, an image, a video file, or "scene" (endless).

    Or a camera on the network: rtsp://... or http://..., of which the latest picture is given, until whoever iterates
    stops; `told` is called, in another thread, with a line for people when it is lost, once until it is back.
    "scene:7" is another place with other people than "scene", which is "scene:0".
    start : frames to pass over first; frames : at most so many (None: all); every : take each every-th
    loop : begin a file or a folder again when it ends; positions and timestamps go on
    Raises SourceError for a source that is missing, has no video, or cannot be opened, ValueError for a
    negative start or frames, or every below 1. Iterating raises SourceError where decoding fails.
    """
    if start < 0 or (frames is not None and frames < 0) or every < 1:
        wanted = "start and frames of 0 or more and every of 1 or more"
        raise ValueError(f"expected {wanted}, got start {start}, frames {frames}, every {every}")
    text = str(source)
    if is_camera(text):
        opened = _camera(int(text))
    elif is_address(text):
        opened, text = _ip_camera(text, told)
    elif is_endless(text):
        opened = _scene(text)
    else:
        path = Path(source) if isinstance(source, Path) else Path(text)
        opened = _looped(path) if loop else _stored(path)
    pending, close, fps, length = opened
    made = Source(text, pending, close, fps=fps, length=length, start=start, frames=frames, every=every)
    if loop or is_endless(str(source)):
        made.total = frames
    return made


def is_camera(source: str) -> bool:
    """Whether a source is a camera's number, and not a file of that name."""
    return source.isdigit() and not Path(source).exists()


def is_endless(source: str) -> bool:
    """Whether a source ends only when its reader does: a camera or the built-in scene."""
    return (
        is_camera(source) or is_address(source) or (source.partition(":")[0] == "scene" and not Path(source).exists())
    )


_Opened: TypeAlias = tuple[Iterator[_Pending], Callable[[], None], float | None, int | None]


def _scene(name: str) -> _Opened:
    word, colon, seed = name.partition(":")
    if colon and not (seed.isdecimal() and len(seed) < 10):
        raise SourceError(f"{name}: expected {word} or {word}:SEED with a whole number, as in {word}:7")
    scene = Scene(int(seed or 0))

    def pending() -> Iterator[_Pending]:
        for index in count():
            yield (lambda index=index: scene.frame(index)), round(index * 1e9 / FPS)  # type: ignore[misc]

    return pending(), lambda: None, float(FPS), None


def _looped(path: Path) -> _Opened:
    """A file or a folder over and over."""
    first = _stored(path)
    current = [first]

    def pending() -> Iterator[_Pending]:
        step = round(1e9 / first[2]) if first[2] else _FOLDER_STEP_NS
        begins = 0
        while True:
            last = -step
            for image, stamp in current[0][0]:
                yield image, begins + stamp
                last = stamp
            begins += last + step
            current[0][1]()
            current[0] = _stored(path)

    return pending(), lambda: current[0][1](), first[2], None


def _stored(path: Path) -> _Opened:
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise SourceError(f"{path}: expected JPEG, PNG or WebP images in this folder, found none{_hides(path)}")
        return _images(images)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _images([path])
    return _video(path)


def _hides(path: Path) -> str:
    """What to add where a file or a folder stands in the way of the built-in scene."""
    return "; it hides the built-in scene, which is scene:0 as well" if path == Path("scene") else ""


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
        raise SourceError(f"{path}: not a video that can be opened: {error.strerror or error}{_hides(path)}") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path}: expected a video stream, found none in this file")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = default_threads()  # FFmpeg starts one for each core of the host
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


def _ip_camera(text: str, told: Callable[[str], None]) -> tuple[_Opened, str]:
    """A camera on the network, and its name without the password. It has to be there at first; later it may be lost."""
    try:
        address = parse(text)
    except AddressError as error:
        raise SourceError(str(error)) from None
    lost, seen = False, False

    def on_status(status: Status) -> None:
        nonlocal lost
        if seen and status.reason is not None and not lost:
            lost = True
            told(f"{address.name}: {status.reason}; trying again")
        elif status.state is CameraState.LIVE:
            lost = False

    camera = Camera(address, CameraOptions(skip_unchanged=False), on_status=on_status)

    def pending() -> Iterator[_Pending]:
        nonlocal seen
        while True:
            picture = camera.take(_POLL_S)
            if picture is not None:
                seen = True
                yield (lambda picture=picture: picture.image), picture.timestamp_ns  # type: ignore[misc]
            elif not seen and (reason := camera.status.reason) is not None:
                raise SourceError(f"{address.name}: {reason}")

    def close() -> None:
        camera.stop()

    camera.start()
    return (pending(), close, None, None), address.name


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
