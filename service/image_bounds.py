"""What a small file may cost beyond its pixels: JPEG scans, PNG chunks, packed data that nobody asked for.

A progressive JPEG may go over all its coefficients as often as it likes; a PNG may carry texts and profiles that
libpng unpacks, or go on with packed data after the last pixel. Each takes minutes of a core for a megabyte.
"""

from __future__ import annotations

import re
import struct
import zlib

from service.codec_errors import CorruptImage, TooCostly, TruncatedImage

MAX_SCANS = 32
"""Encoders make 10, those that look for the best script up to about 20."""
MAX_CHUNKS = 1 << 16
_PIECE = 1 << 18
_SLACK = 1 << 16

_SOS = b"\xff\xda"
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # no stuffing, no restart, no fill
_BARE = frozenset((0x01, 0xD8, 0xD9))

_PNG_START = 8
_KEPT = frozenset((b"PLTE", b"tRNS"))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_scans(data: bytes) -> None:
    """Raise TooCostly for a JPEG of more than MAX_SCANS scans."""
    if data.count(_SOS) <= MAX_SCANS:  # there is no scan without its marker, though there may be one in a thumbnail
        return
    scans, at = 0, 2
    while (found := _MARKER.search(data, at)) is not None:
        at, marker = found.end(), data[found.start() + 1]
        if marker == 0xD9:
            return
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise TooCostly(f"expected a JPEG of at most {MAX_SCANS} scans")
        if marker not in _BARE:
            at += int.from_bytes(data[at : at + 2], "big")


def plain_png(data: bytes) -> bytes:
    """The PNG with nothing but its pixels, palette and transparency.

    data : checked up to IHDR (`codec.read_header`). Raises TruncatedImage, CorruptImage or TooCostly.
    """
    at, kept, pixels = _PNG_START, [data[:_PNG_START]], [b""]
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            break
        if kind == b"IDAT":
            pixels.append(data[at + 8 : end - 4])
        elif kind in _KEPT or at == _PNG_START:
            kept.append(data[at:end])
        elif kind == b"IEND":
            packed = b"".join(pixels)
            _check_packed(packed, _raw_bytes(data))
            return b"".join((*kept, _chunk(b"IDAT", packed), data[at:end]))
        at = end
    else:
        raise TooCostly(f"expected a PNG of at most {MAX_CHUNKS} chunks")
    raise TruncatedImage(f"expected a whole PNG image, got {len(data)} bytes that end too early")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _raw_bytes(data: bytes) -> int:
    """Bytes of the filtered rows (PNG specification, 7.2 and 8.2)."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if colour not in _CHANNELS:
        raise CorruptImage(f"not a valid PNG image: its header says colour type {colour}")
    bits = depth * _CHANNELS[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    return sum(rows * ((columns * bits + 7) // 8 + 1) for columns, rows in sizes if columns > 0 and rows > 0)


def _check_packed(packed: bytes, expected: int) -> None:
    """Raise TooCostly where packed data is of more than `expected` bytes; in little memory."""
    unpacker, unpacked = zlib.decompressobj(), 0
    try:
        while packed and not unpacker.eof:
            unpacked += len(unpacker.decompress(packed, _PIECE))
            packed = unpacker.unconsumed_tail
            if unpacked > expected + _SLACK:
                raise TooCostly(f"expected a PNG of {expected} bytes unpacked, got more")
    except zlib.error as error:
        raise CorruptImage(f"not a valid PNG image: {error}") from error
