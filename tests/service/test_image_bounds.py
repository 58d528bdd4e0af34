"""Decompression bombs: each is refused before it is unpacked, and what real encoders write passes."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg

from service import codec, image_bounds
from service.codec import CorruptImage, TooCostly, TooManyPixels, TruncatedImage
from service.image_bounds import MAX_CHUNKS, MAX_SCANS, check_scans, plain_png

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(extra: bytes = b"", packed: bytes | None = None, size: tuple[int, int] = (16, 16)) -> bytes:
    """A black RGB image with chunks before its pixels."""
    width, height = size
    pixels = zlib.compress(bytes((width * 3 + 1) * height)) if packed is None else packed
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND")


def noise(height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def progressive(image: np.ndarray | None = None) -> bytes:
    data = cv2.imencode(".jpg", noise() if image is None else image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert data.count(b"\xff\xda") == 10
    return data


def with_scans(count: int) -> bytes:
    """The last scan again and again."""
    data = progressive()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - 10) + b"\xff\xd9"


def test_a_jpeg_of_too_many_scans_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("it was decoded"))
    for count in (MAX_SCANS + 1, 5000):
        with pytest.raises(TooCostly, match="at most 32 scans"):
            codec.decode(with_scans(count))


def test_progressive_jpegs_of_encoders_pass() -> None:
    check_scans(progressive())
    check_scans(with_scans(MAX_SCANS))
    assert codec.decode(progressive()).shape == (40, 56, 3)


def test_scans_of_thumbnails_and_of_what_follows_do_not_count() -> None:
    data = progressive()
    thumbnails = b"\xff\xe1" + struct.pack(">H", 2 + 2 * 300) + b"\xff\xda" * 300
    assert codec.decode(data[:2] + thumbnails + data[2:]).shape == (40, 56, 3)
    check_scans(data + b"\xff\xda" * 300)


def test_a_jpeg_of_endless_segments_is_refused() -> None:
    data = progressive()
    with pytest.raises(TooCostly, match="at most 1024 segments"):
        codec.read_header(data[:2] + b"\xff\xfe\0\2" * 2000 + data[2:])
    assert codec.read_header(data[:2] + b"\xff\xfe\0\2" * 900 + data[2:]).width == 56
    assert codec.read_header(data[:2] + b"\xff" * 100_000 + data[2:]).width == 56, "fill bytes are legal"


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_packed_texts_and_profiles_are_never_unpacked(kind: bytes) -> None:
    bomb = chunk(kind, b"a\0\0" + zlib.compress(bytes(7 << 20)))
    data = png(bomb * 100 + chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(7 << 20))) + chunk(b"tEXt") * 50_000)
    assert kind in data
    plain = plain_png(data)
    assert kind not in plain
    assert len(plain) < 200
    assert (codec.decode(data) == 0).all()


def test_a_png_that_unpacks_to_more_than_its_pixels_is_refused_in_little_memory() -> None:
    data = png(packed=zlib.compress(bytes(1 << 28), 9))
    tracemalloc.start()
    try:
        with pytest.raises(TooCostly, match="784 bytes unpacked"):
            codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_png_of_too_many_chunks_is_refused() -> None:
    with pytest.raises(TooCostly, match="chunks"):
        plain_png(png(chunk(b"IDAT") * (MAX_CHUNKS + 1)))


@pytest.mark.parametrize("cut", [30, 50, -1, -13])
def test_a_png_that_ends_early(cut: int) -> None:
    with pytest.raises((TruncatedImage, CorruptImage)):
        codec.decode(png()[:cut])


def test_a_png_of_unknown_colours_or_broken_data() -> None:
    data = bytearray(png())
    data[25] = 5
    with pytest.raises(CorruptImage, match="colour type 5"):
        plain_png(bytes(data))
    with pytest.raises(CorruptImage):
        codec.decode(png(packed=b"no zlib"))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 56)])
def test_pngs_of_encoders_are_as_before(depth: type, channels: int, size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, np.iinfo(depth).max, (*size, channels), depth)
    data = cv2.imencode(".png", image)[1].tobytes()
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(codec.decode(data), expected)
    plain = plain_png(data)
    packed = plain[plain.index(b"IDAT") + 4 :]
    unpacked = len(zlib.decompressobj().decompress(packed))
    assert image_bounds._raw_bytes(data) == unpacked, "what libpng makes of it"


def test_palettes_transparency_and_interlacing_survive() -> None:
    palette = chunk(b"PLTE", bytes(range(12)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 7, 2, 3, 0, 0, 0))
    rows = zlib.compress(b"\0\x1b\x1b\0" * 7)
    data = PNG + header + palette + chunk(b"tRNS", b"\0\1") + chunk(b"IDAT", rows) + chunk(b"IEND")
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(codec.decode(data), expected)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 7, 8, 0, 0, 0, 1))
    sizes = [(2, 1), (1, 1), (3, 1), (2, 2), (5, 2), (4, 4), (9, 3)]
    body = b"".join(b"\0" + bytes(range(width)) for width, height in sizes for _ in range(height))
    data = PNG + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND")
    assert image_bounds._raw_bytes(data) == len(body)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(codec.decode(data), expected)


def test_a_webp_whose_canvas_lies_about_its_frame_is_refused() -> None:
    inner = cv2.imencode(".webp", np.zeros((3000, 3000, 3), np.uint8))[1].tobytes()[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + (15).to_bytes(3, "little") * 2 + inner
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    assert codec.read_header(data).width == 16
    with pytest.raises(CorruptImage):
        codec.decode(data)


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
def test_enormous_dimensions_are_refused_by_the_header(kind: str) -> None:
    data = cv2.imencode(kind, np.zeros((600, 600, 3), np.uint8))[1].tobytes()
    with pytest.raises(TooManyPixels):
        codec.decode(data, codec.Limits(max_pixels=599 * 600))
