"""Encoded images: the good ones decoded, every bad one refused with its reason."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import codec
from service.admission import Overloaded
from service.codec import (
    CodecError,
    CorruptImage,
    Limits,
    TooManyBytes,
    TooManyPixels,
    TruncatedImage,
    UnsupportedImage,
)


def picture(width=61, height=43):
    y, x = np.indices((height, width))
    return np.stack([x * 4 % 256, y * 5 % 256, (x + y) * 2 % 256], 2).astype(np.uint8)


def encoded(suffix, *flags, image=None):
    good, data = cv2.imencode(suffix, picture() if image is None else image, list(flags))
    assert good
    return data.tobytes()


LOSSLESS_WEBP = (cv2.IMWRITE_WEBP_QUALITY, 101)
SAMPLES = {
    "jpeg": encoded(".jpg", cv2.IMWRITE_JPEG_QUALITY, 95),
    "progressive": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "png": encoded(".png"),
    "webp": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 90),
    "lossless": encoded(".webp", *LOSSLESS_WEBP),
    "alpha": encoded(".webp", *LOSSLESS_WEBP, image=np.dstack([picture(), picture()[..., :1]])),
}
FORMATS = {"progressive": "jpeg", "lossless": "webp", "alpha": "webp"}


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("kind", SAMPLES)
def test_header_is_read_without_the_rest(kind):
    header = codec.read_header(SAMPLES[kind])
    assert header == codec.ImageHeader(FORMATS.get(kind, kind), 61, 43)
    assert header.content_type == f"image/{header.format}"


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_decodes_what_opencv_decodes(kind, wrap):
    image = codec.decode(wrap(SAMPLES[kind]))
    assert image.shape == (43, 61, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    theirs = cv2.imdecode(np.frombuffer(SAMPLES[kind], np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert np.abs(image - theirs).max() <= (4 if "jp" in kind or "prog" in kind else 0)


def test_grey_images_become_three_channels():
    for suffix in (".jpg", ".png"):
        image = codec.decode(encoded(suffix, image=picture()[..., 0]))
        assert image.shape == (43, 61, 3)
        assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_image_is_truncated(kind, part):
    data = SAMPLES[kind]
    with pytest.raises(TruncatedImage, match=r"expected .* got"):
        codec.decode(data[: int(len(data) * part)])


@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 2000), st.integers(0, 255))
def test_damage_gives_an_image_or_a_codec_error(kind, at, value):
    data = bytearray(SAMPLES[kind])
    data[at % len(data)] = value
    try:
        image = codec.decode(bytes(data), Limits(max_pixels=1 << 20))
    except CodecError:
        return
    assert image.shape[2] == 3
    assert image.size <= 3 << 20


@given(st.binary(max_size=64))
def test_noise_is_refused(data):
    with pytest.raises(CodecError):
        codec.decode(data)


def test_what_is_no_image_is_unsupported():
    with pytest.raises(UnsupportedImage, match="got an empty message"):
        codec.decode(b"")
    with pytest.raises(UnsupportedImage, match="got data that starts b'hello wo'"):
        codec.decode(b"hello world, this is text")
    with pytest.raises(UnsupportedImage):
        codec.decode(b"GIF89a" + bytes(40))
    with pytest.raises(UnsupportedImage):
        codec.decode(b"RIFF\x10\0\0\0AVI LIST" + bytes(40))


def test_an_animated_webp_is_unsupported():
    flags = b"\x02\0\0\0" + b"\x3c\0\0" + b"\x2a\0\0"
    with pytest.raises(UnsupportedImage, match="animated WebP"):
        codec.read_header(b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0" + flags + bytes(40))


def test_limits_are_checked_before_anything_is_decoded():
    huge = png_header(10_000, 10_000)
    with pytest.raises(TooManyPixels, match="expected at most 16777216 pixels, got 10000x10000, 100000000"):
        codec.decode(huge)
    jpeg = bytearray(SAMPLES["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 10_000, 10_000)
    with pytest.raises(TooManyPixels, match="10000x10000"):
        codec.decode(bytes(jpeg))
    webp = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\x0f\x27\0" + b"\x0f\x27\0" + bytes(40)
    with pytest.raises(TooManyPixels, match="10000x10000"):
        codec.decode(webp)
    with pytest.raises(TooManyBytes, match="expected at most 100 bytes of image, got"):
        codec.decode(SAMPLES["png"], Limits(max_bytes=100))


def test_a_png_that_is_whole_but_wrong_is_corrupt():
    data = bytearray(SAMPLES["png"])
    data[12:16] = b"IXXX"
    with pytest.raises(CorruptImage, match="no image header"):
        codec.decode(bytes(data))


def test_encoding_and_back():
    smooth = cv2.GaussianBlur(picture(), (0, 0), 3)
    data = codec.encode_jpeg(smooth, quality=95)
    assert codec.read_header(data) == codec.ImageHeader("jpeg", 61, 43)
    assert np.abs(codec.decode(data).astype(int) - smooth).mean() < 3
    assert len(codec.encode_jpeg(smooth, quality=20)) < len(data)
    assert codec.encode_jpeg(smooth[:, ::2])


def test_encoding_refuses_other_arrays_and_qualities():
    with pytest.raises(ValueError, match=r"expected an image uint8\[H, W, 3\], got float32\[4, 4, 3\]"):
        codec.encode_jpeg(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="expected a JPEG quality of 1 to 100, got 0"):
        codec.encode_jpeg(picture(), quality=0)


@pytest.mark.parametrize(
    ("kind", "per_pixel"), [("jpeg", 6), ("progressive", 12), ("png", 10), ("webp", 10), ("lossless", 10)]
)
def test_room_is_asked_before_pixels_are_allocated(kind, per_pixel, monkeypatch):
    asked = []

    def room(nbytes, what):
        asked.append((nbytes, what))
        raise Overloaded("there is none")

    monkeypatch.setattr(codec, "_decode_jpeg", lambda *_: pytest.fail("it was decoded"))
    monkeypatch.setattr(codec, "_decode_other", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(Overloaded):
        codec.decode(SAMPLES[kind], Limits(room=room))
    assert asked == [(61 * 43 * per_pixel, "an image of 61x43 pixels")]
