"""Pictures of a camera, by PyAV. Runs in the camera's own process: what FFmpeg does with hostile bytes, it does there.

FFmpeg may use the protocols, containers and codecs that cameras speak and no others: no playlists, no scripts, no
formats that refer to files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import av
import numpy as np

from service.ingest.address import PROTOCOLS, Address
from service.machine_cpus import default_threads

CODECS = "h264,hevc,mjpeg,mpeg4,vp8,vp9,av1,libdav1d,libvpx,libvpx-vp9,mpeg2video,h263"
CONTAINERS = "rtsp,rtp,mpjpeg,mjpeg,jpeg_pipe,h264,hevc,mpegts,flv,mov,mp4,matroska,webm,avi"
MAX_BROKEN = 250
"""Packets in a row that cannot be decoded, after which the stream counts as broken."""
_LIVE = MappingProxyType({"allowed_media_types": "video", "fflags": "nobuffer", "analyzeduration": "500000"})
"""Half a second, us, to find out what the stream is: FFmpeg's five only tell the rate better."""
_TOO_LARGE = "its pictures are larger than max_pixels allows: {}x{}"
_STRIP_ROWS = 64
_MACROBLOCK = 16
_EIGHT_BITS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"})
_WORDS = MappingProxyType({
    "HTTPUnauthorizedError": "it refuses the user or the password (401)",
    "HTTPForbiddenError": "it forbids this (403)",
    "HTTPNotFoundError": "it has no such stream (404)",
    "InvalidDataError": "what it sends is no video that can be read",
    "ArgumentError": "what it sends is no video that can be read",
    "ProtocolNotFoundError": "it speaks a protocol that is not allowed",
    "DecoderNotFoundError": "its codec is not known",
    "EOFError": "it ended the stream",
    "TimeoutError": "it did not answer in time",
})  # fmt: skip


class DecodingError(RuntimeError):
    """There are no more pictures; the message says why and holds no address."""


def pictures(address: Address, *, transport: str, max_pixels: int) -> Iterator[tuple[Any, bool]]:
    """Decoded frames (`av.VideoFrame`) until there are no more; then, always, DecodingError. A file's come in time.

    With each comes whether it was encoded in so few bytes that it may be the frame before (docs/decisions/0024).
    """
    limits = {"protocol_whitelist": PROTOCOLS[address.scheme], "format_whitelist": CONTAINERS}
    live = {**_LIVE, "rtsp_transport": transport} if address.live else {}
    container = None
    try:
        container = av.open(address.url, options={**limits, **live, "codec_whitelist": CODECS})
        if not container.streams.video:
            raise DecodingError("it sends no video")
        stream = container.streams.video[0]
        codec = stream.codec_context
        _check(codec, max_pixels)
        codec.options = {"max_pixels": str(max_pixels), "codec_whitelist": CODECS}
        codec.thread_type = "SLICE"  # threads by frames would hold pictures back
        codec.thread_count = default_threads()  # FFmpeg starts one for each core of the host
        frames = _decoded(container, stream, max_pixels)
        yield from frames if address.live else _in_time(frames)
    except (av.FFmpegError, OSError) as error:
        raise DecodingError(in_words(error)) from None
    finally:
        if container is not None:
            container.close()
    raise DecodingError(_WORDS["EOFError"])


def in_words(error: Exception) -> str:
    """What FFmpeg says, for people; without the address, which FFmpeg adds."""
    for kind in type(error).__mro__:
        if kind.__name__ in _WORDS:
            return _WORDS[kind.__name__]
    return (getattr(error, "strerror", None) or type(error).__name__).lower()


def is_tiny(packet_bytes: int, height: int) -> bool:
    """Whether a packet has less than a byte for each row of macroblocks: a frame in which all of them are skipped."""
    return packet_bytes * _MACROBLOCK < height


def _check(codec: Any, max_pixels: int) -> None:
    """Raise DecodingError for a codec that no camera uses, and for pictures that are known to be too large."""
    if codec.name not in CODECS.split(","):
        raise DecodingError("its codec is not one of those that cameras use")
    if codec.width * codec.height > max_pixels:
        raise DecodingError(_TOO_LARGE.format(codec.width, codec.height))


def _decoded(container: Any, stream: Any, max_pixels: int) -> Iterator[tuple[Any, bool]]:
    broken = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:  # packets were lost: the next keyframe mends it
            broken += 1
            if broken > MAX_BROKEN:
                raise
            continue
        broken = 0
        for frame in frames:
            if frame.width * frame.height > max_pixels:  # they may grow in mid-stream
                raise DecodingError(_TOO_LARGE.format(frame.width, frame.height))
            yield frame, is_tiny(packet.size, frame.height)


def _in_time(frames: Iterator[tuple[Any, bool]]) -> Iterator[tuple[Any, bool]]:
    """Frames when their time has come, as from a camera."""
    begun, first = time.monotonic(), None
    for frame, tiny in frames:
        if frame.time is not None:
            first = frame.time if first is None else first
            time.sleep(min(1.0, max(0.0, begun + frame.time - first - time.monotonic())))
        yield frame, tiny


def same_picture(one: Any, other: Any) -> bool:
    """Whether two decoded frames are alike to the last bit. Exact; frames that differ at the top are told apart there.

    False for formats of more than 8 bits, which are not looked at.
    """
    if (one.format.name, one.width, one.height) != (other.format.name, other.width, other.height):
        return False
    if one.format.name not in _EIGHT_BITS:
        return False
    return all(_same_plane(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def _same_plane(one: Any, other: Any) -> bool:
    width, height = one.width, one.height
    rows = np.frombuffer(one, np.uint8).reshape(-1, one.line_size)[:height, :width]
    others = np.frombuffer(other, np.uint8).reshape(-1, other.line_size)[:height, :width]
    return all(
        np.array_equal(rows[top : top + _STRIP_ROWS], others[top : top + _STRIP_ROWS])
        for top in range(0, height, _STRIP_ROWS)
    )
