"""Payloads of changed tiles: the golden vectors, round trips, and any bytes give tiles or a WireError of two codes."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.wire import (
    ErrorCode,
    FrameMessage,
    Op,
    TilesPayload,
    WireError,
    decode_frame,
    encode_frame,
    encode_tiles,
    parse_tiles,
    reference_of,
    vectors,
)


def load(stem: str) -> list[dict]:
    return json.loads((vectors.GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))


def by_name(stem: str) -> list:
    return [pytest.param(vector, id=vector["name"]) for vector in load(stem)]


@st.composite
def payloads(draw: st.DrawFn) -> TilesPayload:
    width, height, tile = draw(st.integers(1, 200)), draw(st.integers(1, 200)), draw(st.sampled_from([1, 8, 16, 255]))
    places = -(-width // tile) * -(-height // tile)
    changed = draw(st.lists(st.integers(0, places - 1), max_size=20, unique=True))
    bits = sum(1 << (places - 1 - place) for place in changed) << (-places % 8)
    columns = draw(st.integers(1, 200)) if changed else 0
    image = b"\xff\xd8" + draw(st.binary(max_size=40)) + b"\xff\xd9" if changed else b""
    base = draw(st.integers(0, 2**32 - 1))
    return TilesPayload(base, width, height, tile, columns, bits.to_bytes(-(-places // 8), "big"), image)


def attempt(data: bytes) -> tuple[TilesPayload | None, ErrorCode | None]:
    try:
        return parse_tiles(data), None
    except WireError as error:
        return None, error.code


@pytest.mark.parametrize("vector", by_name("tiles"))
def test_golden_payloads(vector: dict) -> None:
    data = bytes.fromhex(vector["hex"])
    frame = decode_frame(data)
    tiles = parse_tiles(frame.payload)
    assert frame.op is Op.TILES
    assert frame.payload.hex() == vector["payload_hex"]
    assert {name: getattr(tiles, name) for name in ("base", "width", "height", "tile_px", "columns", "count")} == {
        name: vector[name] for name in ("base", "width", "height", "tile_px", "columns", "count")
    }
    assert (tiles.bitmap.hex(), tiles.image.hex()) == (vector["bitmap_hex"], vector["image_hex"])
    assert [list(tiles.grid), list(tiles.mosaic_size)] == [vector["grid"], vector["mosaic_size"]]
    assert encode_tiles(tiles) == frame.payload
    assert encode_frame(frame) == data
    assert zlib.crc32(frame.payload) == reference_of(frame.payload) == vector["reference"]


def test_the_golden_payloads_are_a_chain() -> None:
    golden = load("tiles")
    assert golden[0]["base"] == zlib.crc32(vectors.FRAMES["image_jpeg"].payload)
    assert [after["base"] for after in golden[1:]] == [before["reference"] for before in golden[:-1]]


@pytest.mark.parametrize("vector", by_name("tiles"))
def test_every_truncation_is_refused(vector: dict) -> None:
    data = bytes.fromhex(vector["hex"])
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode_frame(data[:length])


@pytest.mark.parametrize("vector", by_name("refused_tiles"))
def test_golden_refusals(vector: dict) -> None:
    with pytest.raises(WireError) as caught:
        decode_frame(bytes.fromhex(vector["hex"]))
    assert caught.value.code == vector["code"]
    assert caught.value.seq == 1


@given(payloads())
def test_round_trip(tiles: TilesPayload) -> None:
    payload = encode_tiles(tiles)
    assert parse_tiles(payload) == tiles
    rows, columns = tiles.grid
    assert (rows - 1) * tiles.tile_px < tiles.height <= rows * tiles.tile_px
    assert (columns - 1) * tiles.tile_px < tiles.width <= columns * tiles.tile_px
    wide, high = tiles.mosaic_size
    assert wide * high >= tiles.count * tiles.tile_px**2
    assert str(tiles).startswith(f"{tiles.count} tiles of {tiles.width}x{tiles.height}")


@given(payloads(), st.data())
def test_a_changed_byte_gives_tiles_or_a_wire_error(tiles: TilesPayload, data: st.DataObject) -> None:
    raw = bytearray(encode_tiles(tiles))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    found, error = attempt(bytes(raw))
    assert encode_tiles(found) == raw if found else error is ErrorCode.BAD_TILES


@given(st.binary(max_size=80))
def test_any_bytes_give_tiles_or_a_wire_error(data: bytes) -> None:
    found, error = attempt(data)
    assert len(found.bitmap) + len(found.image) + 12 == len(data) if found else error is ErrorCode.BAD_TILES


@pytest.mark.parametrize(
    "fields",
    [
        {"base": 2**32}, {"base": -1}, {"width": 0}, {"width": 65_536}, {"tile_px": 256}, {"columns": 65_536},
        {"bitmap": b""}, {"bitmap": b"\x40"}, {"bitmap": b"\x40\x00\x00"}, {"bitmap": b"\x40\x01"}, {"image": b""},
        {"columns": 0},
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_not_encoded(fields: dict) -> None:
    good = {"base": 1, "width": 64, "height": 48, "tile_px": 16, "columns": 1, "bitmap": b"\x40\x00", "image": b"x"}
    assert encode_tiles(TilesPayload(**good))
    with pytest.raises(WireError) as caught:
        encode_tiles(TilesPayload(**{**good, **fields}))
    assert caught.value.code is ErrorCode.BAD_TILES


def test_a_frame_of_tiles_says_so() -> None:
    frame = decode_frame(bytes.fromhex(load("tiles")[0]["hex"]))
    assert isinstance(frame, FrameMessage)
    assert str(frame).startswith("TILES seq=1 ")
