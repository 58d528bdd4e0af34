"""Cameras for tests: an RTSP server of its own process, clips, and what became of a camera."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest

from service.ingest.camera import CameraState, Status

PYTHON = Path("/usr/bin/python3")
SCRIPT = Path(__file__).with_name("rtsp_server.py")
PATIENCE_S = 60.0
"""For what takes a second or two on a quiet machine."""


@functools.cache
def why_no_rtsp() -> str | None:
    """Why there is no RTSP server here; None if there is."""
    if not PYTHON.exists():
        return f"no {PYTHON}"
    look = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    found = subprocess.run([PYTHON, "-c", look], capture_output=True, text=True)
    return None if found.returncode == 0 else f"the system's Python has no GStreamer RTSP server: {found.stderr[-200:]}"


@dataclass
class RtspServer:
    """A server that can be ended by `process.kill()` or halted by a signal."""

    process: subprocess.Popen
    port: int

    def url(self, user: str = "viewer:secret@") -> str:
        return f"rtsp://{user}127.0.0.1:{self.port}/cam"


@contextmanager
def rtsp_server(port: int = 0) -> Iterator[RtspServer]:
    """A server at a port; skips the test where there can be none."""
    if (reason := why_no_rtsp()) is not None:
        pytest.skip(reason)
    process = subprocess.Popen([PYTHON, SCRIPT, str(port), "viewer", "secret"], stdout=subprocess.PIPE, text=True)
    try:
        words = process.stdout.readline().split()
        if not words:
            pytest.skip("the RTSP server found no encoder, or no port")
        yield RtspServer(process, int(words[1]))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def clip(path: Path, levels: list[int], fps: int = 25, size: tuple[int, int] = (64, 48)) -> str:
    """The address of a video with a frame of each grey level; "mpeg4", so that equal frames are encoded as nothing."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = 1000
        for level in levels:
            image = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return f"file://{path}"


@dataclass
class History:
    """Every status that a camera told."""

    told: list[Status] = field(default_factory=list)

    def __call__(self, status: Status) -> None:
        self.told.append(status)

    def states(self) -> list[CameraState]:
        return [status.state for status in self.told]

    def has(self, *states: CameraState) -> bool:
        """Whether these came in this order, others between them or not."""
        left = iter(self.states())
        return all(state in left for state in states)


def until(condition: Callable[[], object]) -> None:
    """Poll until `condition()` holds; AssertionError after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)
