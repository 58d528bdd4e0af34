"""Payloads of op 3: the tiles of a frame that changed, on a reference that both ends name alike. No image decoding.

A frame is cut into square tiles. A payload names the reference that its tiles lie on, says by a bitmap which tiles
changed, and carries those as one encoded image, the mosaic. Nothing of it is taken on trust: what `parse_tiles` returns
keeps to all bounds, and costs no more memory than came.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from .errors import ErrorCode, WireError

MAX_SIDE_PX = 0xFFFF
MAX_TILE_PX = 0xFF
MAX_REFERENCE = 0xFFFF_FFFF

_HEAD = struct.Struct("<IHHBBH")
HEAD_BYTES = _HEAD.size


@dataclass(frozen=True, slots=True)
class TilesPayload:
    """The tiles of a frame that changed.

    base : the reference that they lie on (`reference_of`). width, height : of the frame, px. tile_px : edge of a tile.
    columns : of the mosaic, in tiles; 0 where no tile has changed. bitmap : one bit for each tile of the frame, in
    row-major order, most significant bit first; 1: changed. image : the encoded mosaic; empty where no tile has
    changed.
    """

    base: int
    width: int
    height: int
    tile_px: int
    columns: int
    bitmap: bytes
    image: bytes

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles of the frame."""
        return grid_of(self.width, self.height, self.tile_px)

    @property
    def count(self) -> int:
        """How many tiles have changed."""
        return int.from_bytes(self.bitmap, "big").bit_count()

    @property
    def mosaic_size(self) -> tuple[int, int]:
        """Width and height that the mosaic must have, px; (0, 0) where no tile has changed."""
        if not self.columns:
            return 0, 0
        return self.columns * self.tile_px, -(-self.count // self.columns) * self.tile_px

    def __str__(self) -> str:
        return f"{self.count} tiles of {self.width}x{self.height} on {self.base:08x} [{len(self.image)} bytes]"


def grid_of(width: int, height: int, tile_px: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover a frame; those at its right and lower edge may be cut off."""
    return -(-height // tile_px), -(-width // tile_px)


def reference_of(payload: bytes) -> int:
    """What names a frame as a reference: CRC-32 (IEEE) of its whole payload, of op 1 or op 3.

    The payload of op 3 contains its own base, so that a reference stands for the whole chain down to a whole frame.
    """
    return zlib.crc32(payload)


def encode_tiles(tiles: TilesPayload) -> bytes:
    """The payload of an op 3 message. WireError (`bad_tiles`) for what `parse_tiles` would refuse."""
    try:
        head = _HEAD.pack(tiles.base, tiles.width, tiles.height, tiles.tile_px, 0, tiles.columns)
    except struct.error as error:
        raise _bad(f"expected fields within their bounds, got one that is not: {error}") from None
    payload = head + tiles.bitmap + tiles.image
    if parse_tiles(payload) != tiles:
        raise _bad(f"expected a bitmap of {_bitmap_bytes(tiles.grid)} bytes, got {len(tiles.bitmap)}")
    return payload


def parse_tiles(payload: bytes) -> TilesPayload:
    """Parse the payload of an op 3 message; WireError (`bad_tiles`) for anything that is none.

    The mosaic itself is not looked at.
    """
    if len(payload) < HEAD_BYTES:
        raise _bad(f"expected {HEAD_BYTES} bytes before the bitmap, got {len(payload)}")
    base, width, height, tile_px, reserved, columns = _HEAD.unpack_from(payload)
    if not width or not height or not tile_px:
        raise _bad(f"expected a frame and tiles of 1 px or more, got {width}x{height} in tiles of {tile_px}")
    if reserved:
        raise _bad(f"expected 0 in the reserved byte, got {reserved}")
    rows, across = grid_of(width, height, tile_px)
    end = HEAD_BYTES + _bitmap_bytes((rows, across))
    if len(payload) < end:
        raise _bad(
            f"expected a bitmap of {end - HEAD_BYTES} bytes for {rows}x{across} tiles, got {len(payload) - HEAD_BYTES}"
        )
    left_over = 8 * (end - HEAD_BYTES) - rows * across
    if payload[end - 1] & ((1 << left_over) - 1):
        raise _bad(f"expected the last {left_over} bits of the bitmap to be 0")
    tiles = TilesPayload(base, width, height, tile_px, columns, payload[HEAD_BYTES:end], payload[end:])
    count = tiles.count
    if bool(count) != bool(columns) or bool(count) != bool(tiles.image):
        got = f"{columns} columns and {len(tiles.image)} bytes"
        raise _bad(f"expected a mosaic where tiles changed and none where none did, got {count} tiles, {got}")
    if max(tiles.mosaic_size) > MAX_SIDE_PX:
        raise _bad("expected a mosaic of at most {0}x{0} px, got {1}x{2}".format(MAX_SIDE_PX, *tiles.mosaic_size))
    return tiles


def _bitmap_bytes(grid: tuple[int, int]) -> int:
    return (grid[0] * grid[1] + 7) // 8


def _bad(detail: str) -> WireError:
    return WireError(ErrorCode.BAD_TILES, detail)
