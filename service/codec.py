"""Still images from strangers: JPEG, PNG and WebP in, BGR pixels out, JPEG out again.

The header is read first, a few bytes by hand, and size limits are checked before anything
is allocated. EXIF orientation is ignored: boxes refer to pixels as stored. Animations are refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from service.codec_errors import (
    CodecError,
    CorruptImage,
    TooCostly,
    TooManyBytes,
    TooManyPixels,
    TruncatedImage,
    UnsupportedImage,
)
from service.image_bounds import check_scans, plain_png

__all__ = [
    "DEFAULT_LIMITS",
    "CodecError",
    "CorruptImage",
    "Image",
    "ImageHeader",
    "Limits",
    "TooCostly",
    "TooManyBytes",
    "TooManyPixels",
    "TruncatedImage",
    "UnsupportedImage",
    "decode",
    "encode_jpeg",
    "read_header",
]

Image = NDArray[np.uint8]
Buffer = bytes | bytearray | memoryview

_PNG = b"\x89PNG\r\n\x1a\n"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BARE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})  # these have no length
_NO_FILL = re.compile(rb"[^\xff]")
_MAX_SEGMENTS = 1024  # a colour profile takes 255 at most
_SHORTEST = 12  # bytes that tell the three formats apart


@dataclass(frozen=True)
class Limits:
    """What an image may cost: encoded size in bytes, decoded size in pixels (width * height).

    room : held while it is decoded, of bytes and what they are for; raises where there is not the memory.
    """

    max_bytes: int = 16 << 20
    max_pixels: int = 4096 * 4096
    room: Callable[[int, str], AbstractContextManager[None]] = lambda nbytes, what: nullcontext()


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class ImageHeader:
    """Format and size in pixels, as the header states them. progressive : of a JPEG that comes in several scans."""

    format: Literal["jpeg", "png", "webp"]
    width: int
    height: int
    progressive: bool = field(default=False, compare=False)

    @property
    def decoding_bytes(self) -> int:
        """Memory that decoding takes, of the pixels, of a copy of them, and of what the decoder keeps meanwhile."""
        kept = 6 if self.progressive else 0 if self.format == "jpeg" else 4
        return self.width * self.height * (2 * 3 + kept)

    @property
    def content_type(self) -> str:
        """The media type, such as image/jpeg."""
        return f"image/{self.format}"


def read_header(data: Buffer) -> ImageHeader:
    """Format and size of an encoded image, from its first bytes; nothing is decoded.

    Raises UnsupportedImage, TruncatedImage, CorruptImage or TooCostly.
    """
    start = bytes(data[:32])
    if not start:
        raise UnsupportedImage("expected a JPEG, PNG or WebP image, got an empty message")
    if start[:3] == b"\xff\xd8\xff":
        return _jpeg_header(data)
    if start[:8] == _PNG[: len(start)]:
        return _png_header(start)
    if start[:4] == b"RIFF" and start[8:12] in (b"WEBP", b""):
        return _webp_header(start)
    if len(start) < _SHORTEST and (b"\xff\xd8\xff".startswith(start) or b"RIFF".startswith(start)):
        raise TruncatedImage(f"expected an image header, got only {len(start)} bytes")
    raise UnsupportedImage(f"expected a JPEG, PNG or WebP image, got data that starts {start[:8]!r}")


def decode(data: Buffer, limits: Limits = DEFAULT_LIMITS, *, apart: bool = False) -> Image:
    """Pixels of an encoded image: uint8[H, W, 3] BGR, C-contiguous, a new array.

    apart : the colour of a JPEG is not smoothed over the borders of its units of 16 px: they are tiles that have
    nothing to do with each other.

    Raises TooManyBytes, TooManyPixels, TooCostly (all before pixels are allocated), UnsupportedImage, TruncatedImage
    or CorruptImage.
    """
    if len(data) > limits.max_bytes:
        raise TooManyBytes(f"expected at most {limits.max_bytes} bytes of image, got {len(data)}")
    header = read_header(data)
    if header.width * header.height > limits.max_pixels:
        got = f"{header.width}x{header.height}, {header.width * header.height} pixels"
        raise TooManyPixels(f"expected at most {limits.max_pixels} pixels, got {got}")
    with limits.room(header.decoding_bytes, f"an image of {header.width}x{header.height} pixels"):
        image = _decode_jpeg(data, apart) if header.format == "jpeg" else _decode_other(data, header)
    if image.shape != (header.height, header.width, 3):
        got = f"{image.shape[1]}x{image.shape[0]}"
        raise CorruptImage(f"expected {header.width}x{header.height} pixels as the header says, got {got}")
    return image


def encode_jpeg(image: Image, quality: int = 85) -> bytes:
    """JPEG (4:2:0) of uint8[H, W, 3] BGR; quality 1..100. Raises ValueError for anything else."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"expected an image uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    if not 1 <= quality <= 100:
        raise ValueError(f"expected a JPEG quality of 1 to 100, got {quality}")
    pixels = np.ascontiguousarray(image)
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality, colorspace="BGR", colorsubsampling="420")
    return encoded


def _jpeg_header(data: Buffer) -> ImageHeader:
    """ITU-T T.81, annex B: markers up to the frame header, found as libjpeg finds them."""
    view, at = bytes(data), 2
    for _ in range(_MAX_SEGMENTS):
        start = view.find(b"\xff", at)
        found = _NO_FILL.search(view, start) if start >= 0 else None
        if found is None or found.start() + 3 > len(view):
            raise TruncatedImage(f"expected a JPEG frame header, got {len(view)} bytes that end before it")
        at = found.start()
        marker = view[at]
        at += 1
        if marker in _BARE_MARKERS:
            continue
        if marker in (0xD8, 0xD9, 0xDA):
            raise CorruptImage(f"not a valid JPEG image: marker {marker:#x} stands before the frame header")
        if marker in _FRAME_MARKERS:
            break
        at += int.from_bytes(view[at : at + 2], "big")
    else:
        raise TooCostly(f"expected at most {_MAX_SEGMENTS} segments before a JPEG frame header")
    if at + 7 > len(view):
        raise TruncatedImage(f"expected a JPEG frame header, got {len(view)} bytes that end in it")
    height, width = struct.unpack(">HH", view[at + 3 : at + 7])
    if not width or not height:
        raise CorruptImage(f"not a valid JPEG image: its header says {width}x{height}")
    return ImageHeader("jpeg", width, height, progressive=marker in _PROGRESSIVE)


def _decode_jpeg(data: Buffer, apart: bool) -> Image:
    """By libjpeg-turbo; what it cannot turn into BGR (CMYK) goes to OpenCV."""
    raw = bytes(data)
    check_scans(raw)
    try:
        image: Image = simplejpeg.decode_jpeg(raw, colorspace="BGR", fastupsample=apart, strict=True)
        return image
    except (ValueError, KeyError) as error:  # KeyError: a chroma subsampling that simplejpeg has no name for
        problem = _jpeg_error(error, raw)
        if isinstance(problem, TruncatedImage):
            raise problem from error
    fallback = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if fallback is None:
        raise problem
    pixels: Image = fallback
    return pixels


def _jpeg_error(error: Exception, data: Buffer) -> CodecError:
    """libjpeg-turbo's words, sorted into cut short and broken."""
    words = str(error)
    short = "premature end" in words.lower() or b"\xff\xd9" not in bytes(data[-4096:])
    if short:
        return TruncatedImage(f"expected a whole JPEG image, got {len(data)} bytes that end too early")
    return CorruptImage(f"not a valid JPEG image: {words}")


def _png_header(start: bytes) -> ImageHeader:
    """PNG specification, 11.2.2: the IHDR chunk comes first."""
    if len(start) < 24:
        raise TruncatedImage(f"expected a PNG header of 24 bytes, got {len(start)}")
    length, kind, width, height = struct.unpack(">I4sII", start[8:24])
    if length != 13 or kind != b"IHDR" or not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise CorruptImage("not a valid PNG image: its first chunk is no image header")
    return ImageHeader("png", width, height)


def _webp_header(start: bytes) -> ImageHeader:
    """RFC 9649: a RIFF file whose first chunk is VP8 (lossy), VP8L (lossless) or VP8X (extended)."""
    if len(start) < 30:
        raise TruncatedImage(f"expected a WebP header of 30 bytes, got {len(start)}")
    kind = start[12:16]
    if kind == b"VP8 " and start[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", start[26:30])
        width, height = width & 0x3FFF, height & 0x3FFF
    elif kind == b"VP8L" and start[20] == 0x2F:
        (bits,) = struct.unpack("<I", start[21:25])
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        if start[20] & 0x02:
            raise UnsupportedImage("expected a still image, got an animated WebP")
        width = int.from_bytes(start[24:27], "little") + 1
        height = int.from_bytes(start[27:30], "little") + 1
    else:
        raise CorruptImage(f"not a valid WebP image: its first chunk is {kind!r}")
    if not width or not height:
        raise CorruptImage(f"not a valid WebP image: its header says {width}x{height}")
    return ImageHeader("webp", width, height)


def _decode_other(data: Buffer, header: ImageHeader) -> Image:
    if header.format == "png":
        data = plain_png(bytes(data))
    elif int.from_bytes(bytes(data[4:8]), "little") + 8 > len(data):
        raise TruncatedImage(f"expected a whole WebP image, got {len(data)} bytes that end too early")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptImage(f"not a valid {header.format} image: {error}") from error
    if image is None:
        raise CorruptImage(f"not a valid {header.format} image: it cannot be decoded")
    pixels: Image = image
    return pixels
