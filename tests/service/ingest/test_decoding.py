"""Decoding: what comes of a stream, what is said when nothing does, and which pictures count as the same."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from cameras import clip

from service.ingest.address import parse
from service.ingest.decoding import DecodingError, in_words, is_tiny, pictures, same_picture


def read(url: str, max_pixels: int = 1 << 20) -> tuple[list[int], list[bool], str]:
    """Grey levels of all pictures, whether each was encoded in few bytes, and why they ended."""
    levels, tiny = [], []
    try:
        for frame, small in pictures(parse(url), transport="tcp", max_pixels=max_pixels):
            levels.append(round(frame.to_ndarray(format="bgr24").mean()))
            tiny.append(small)
    except DecodingError as error:
        return levels, tiny, str(error)
    raise AssertionError("pictures never just end")


def test_a_clip_gives_all_its_pictures_and_ends(tmp_path: Path) -> None:
    levels, tiny, reason = read(clip(tmp_path / "a.mp4", [50, 50, 200], fps=200))
    np.testing.assert_allclose(levels, [50, 50, 200], atol=6)
    assert not tiny[0]
    assert reason == "it ended the stream"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.mp4", b"garbage" * 1000, "no video that can be read"),
        ("a.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "no video that can be read"),
        ("a.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n", "no video that can be read"),
        ("a.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5000 RTP/AVP 96\n", "no video that can be read"),
    ],
)
def test_what_is_no_video_of_a_camera(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert says in read(f"file://{path}")[2]


def test_a_missing_file_is_said_without_its_name(tmp_path: Path) -> None:
    assert read(f"file://{tmp_path}/none.mp4")[2] == "no such file or directory"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert read(f"file://{path}")[2] == "it sends no video"


def test_pictures_that_are_too_large_are_not_decoded(tmp_path: Path) -> None:
    levels, _, reason = read(clip(tmp_path / "a.mp4", [50]), max_pixels=64 * 48 - 1)
    assert levels == []
    assert reason == "its pictures are larger than max_pixels allows: 64x48"


def test_codecs_that_no_camera_speaks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    levels, _, reason = read(f"file://{path}")
    assert (levels, reason) == ([], "its codec is not one of those that cameras use")


def picture(level: int, width: int = 70, height: int = 130, form: str = "yuv420p"):
    frame = av.VideoFrame(width, height, form)
    for plane in frame.planes:
        plane.update(np.full(plane.buffer_size, level, np.uint8).tobytes())
    return frame


def test_same_pictures_are_told_to_the_last_bit() -> None:
    assert same_picture(picture(9), picture(9))
    assert not same_picture(picture(9), picture(8))
    assert not same_picture(picture(9), picture(9, width=72))
    assert not same_picture(picture(9), picture(9, form="yuv422p"))
    assert not same_picture(picture(9, form="rgb24"), picture(9, form="rgb24")), "packed formats are not looked at"
    for plane, row, column in ((0, 0, 0), (0, 129, 69), (1, 64, 34), (2, 0, 34)):
        other = picture(9)
        there = other.planes[plane]
        data = np.frombuffer(there, np.uint8).reshape(-1, there.line_size).copy()
        data[row, column] ^= 1
        there.update(data.tobytes())
        assert not same_picture(picture(9), other), (plane, row, column)


def test_what_is_beside_the_picture_does_not_count() -> None:
    one, other = picture(9), picture(9)
    there = other.planes[0]
    assert there.line_size > there.width
    data = np.frombuffer(there, np.uint8).reshape(-1, there.line_size).copy()
    data[:, there.width :] = 77
    there.update(data.tobytes())
    assert same_picture(one, other)


def test_few_bytes() -> None:
    assert is_tiny(29, 480)
    assert not is_tiny(30, 480)


def test_errors_in_words() -> None:
    assert in_words(av.error.HTTPUnauthorizedError(-1, "x", "rtsp://a:geheim@cam")) == (
        "it refuses the user or the password (401)"
    )
    assert in_words(ConnectionRefusedError(111, "Connection refused", "rtsp://a:geheim@cam")) == "connection refused"
    assert in_words(ValueError("rtsp://a:geheim@cam")) == "valueerror"
