"""The golden files are what the codec does, byte by byte, and nothing cut from them gets through."""

from __future__ import annotations

import json

import msgspec
import pytest

from clients.wire import Encoding, WireError, decode_frame, encode_frame, parse_subprotocols, vectors
from clients.wire.messages import decode_client_message, decode_server_message, encode_message


def load(stem: str) -> list[dict]:
    return json.loads((vectors.GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))


def by_name(stem: str) -> list:
    return [pytest.param(vector, id=vector["name"]) for vector in load(stem)]


def test_files_are_what_the_code_writes() -> None:
    built = json.loads(json.dumps(vectors.build()))
    assert {path.stem for path in vectors.GOLDEN.glob("*.json")} == set(built)
    for stem, expected in built.items():
        assert load(stem) == expected, f"golden/{stem}.json differs: the protocol changed"


@pytest.mark.parametrize("vector", by_name("frames"))
def test_frame_bytes(vector: dict) -> None:
    data = bytes.fromhex(vector["hex"])
    frame = decode_frame(data)
    assert (int(frame.op), int(frame.flags)) == (vector["op"], vector["flags"])
    assert (str(frame.seq), str(frame.capture_ts_us)) == (vector["seq"], vector["capture_ts_us"])
    assert frame.payload.hex() == vector["payload_hex"]
    assert encode_frame(frame) == data
    assert data[4:8] == int(vector["seq"]).to_bytes(4, "little")
    assert data[8:16] == int(vector["capture_ts_us"]).to_bytes(8, "little")


@pytest.mark.parametrize("vector", by_name("frames"))
def test_every_truncation_of_a_frame_is_refused(vector: dict) -> None:
    data = bytes.fromhex(vector["hex"])
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode_frame(data[:length])


@pytest.mark.parametrize("vector", by_name("refused_frames"))
def test_refused_frames(vector: dict) -> None:
    with pytest.raises(WireError) as caught:
        decode_frame(bytes.fromhex(vector["hex"]))
    assert caught.value.code == vector["code"]
    assert caught.value.detail


@pytest.mark.parametrize("side", ["client", "server"])
def test_messages_both_encodings(side: str) -> None:
    decode = decode_client_message if side == "client" else decode_server_message
    source = vectors.CLIENT_MESSAGES if side == "client" else vectors.SERVER_MESSAGES
    for vector in load(f"{side}_messages"):
        message = source[vector["name"]]
        text = bytes.fromhex(vector["json_hex"])
        packed = bytes.fromhex(vector["msgpack_hex"])
        assert decode(text, Encoding.JSON) == message
        assert decode(text.decode(), Encoding.JSON) == message
        assert decode(packed, Encoding.MSGPACK) == message
        assert json.loads(text) == vector["fields"] == msgspec.msgpack.decode(packed)
        assert encode_message(message, Encoding.JSON) == text.decode()
        assert encode_message(message, Encoding.MSGPACK) == packed
        assert packed[0] >= 0x80, "a msgpack message must not look like a binary frame"


@pytest.mark.parametrize("side", ["client", "server"])
def test_every_truncation_of_a_message_is_refused(side: str) -> None:
    decode = decode_client_message if side == "client" else decode_server_message
    for vector in load(f"{side}_messages"):
        for key, encoding in (("json_hex", Encoding.JSON), ("msgpack_hex", Encoding.MSGPACK)):
            data = bytes.fromhex(vector[key])
            for length in range(len(data)):
                with pytest.raises(WireError):
                    decode(data[:length], encoding)


@pytest.mark.parametrize("vector", by_name("subprotocols"))
def test_subprotocols(vector: dict) -> None:
    offer = parse_subprotocols(vector["offered"])
    assert offer.encoding.name.lower() == vector["encoding"]
    assert offer.token == vector["token"]
