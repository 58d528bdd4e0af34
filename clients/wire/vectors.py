"""The golden vectors: one list in code, written to `golden/*.json` for every codec to be tested against.

`python -m clients.wire.vectors` writes the files again. A change there is a change of the protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from .binary import Flags, FrameMessage, Op, encode_frame
from .handshake import Encoding, bearer_subprotocol
from .messages import (
    Ack,
    Audit,
    Bye,
    Changes,
    ClassScore,
    ClientMessage,
    Detection,
    Draining,
    ErrorMessage,
    Hello,
    Limits,
    Mask,
    Moved,
    Output,
    Policy,
    Ready,
    Result,
    ResumeReason,
    ServerMessage,
    Tensor,
    TileRules,
    Timing,
    encode_message,
)
from .tiles import TilesPayload, encode_tiles, parse_tiles, reference_of

GOLDEN = Path(__file__).parent / "golden"

# The smallest bytes that are whole images by their container: no decoder is meant to open them.
_JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")
_PNG = bytes.fromhex("89504e470d0a1a0a0000000049454e44ae426082")
_WEBP = b"RIFF" + (12).to_bytes(4, "little") + b"WEBPVP8L" + bytes(4)

FRAMES: dict[str, FrameMessage] = {
    "image_jpeg": FrameMessage(Op.IMAGE, Flags.NONE, 1, 1_700_000_000_123_456, _JPEG),
    "image_reset": FrameMessage(Op.IMAGE, Flags.RESET, 2, 0, _JPEG),
    "image_largest_numbers": FrameMessage(Op.IMAGE, Flags.NONE, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF, _JPEG),
    "image_byte_order": FrameMessage(Op.IMAGE, Flags.RESET, 0x0102_0304, 0x0102_0304_0506_0708, _JPEG),
    "image_png": FrameMessage(Op.IMAGE, Flags.NONE, 7, 42, _PNG),
    "image_webp": FrameMessage(Op.IMAGE, Flags.NONE, 8, 43, _WEBP),
    "annotated": FrameMessage(Op.ANNOTATED, Flags.NONE, 9, 44, _JPEG),
}

# Payloads of op 3. The first lies on the whole JPEG above, each of the others on the one before it.
_JPEG_REFERENCE = reference_of(_JPEG)
TILES: dict[str, TilesPayload] = {
    "one_tile": TilesPayload(_JPEG_REFERENCE, 64, 48, 16, 1, bytes.fromhex("4000"), _JPEG),
}
for _name, _size, _columns, _bitmap, _image in (
    ("no_tile", (64, 48), 0, "0000", b""),
    ("all_tiles_cut_at_the_edges", (50, 33), 4, "fff0", _PNG),
    ("places_left_over", (50, 33), 2, "8880", _WEBP),
    ("one_pixel", (1, 1), 1, "80", _JPEG),
    ("grid_of_whole_bytes", (128, 16), 3, "e1", _JPEG),
    ("largest_frame", (65_535, 1), 0, "00" * 512, b""),
):
    _before = reference_of(encode_tiles([*TILES.values()][-1]))
    TILES[_name] = TilesPayload(_before, *_size, 16, _columns, bytes.fromhex(_bitmap), _image)

CLIENT_MESSAGES: dict[str, ClientMessage] = {
    "hello_defaults": Hello(),
    "hello_full": Hello(
        model="yolox_nano",
        content_type="image/png",
        policy=Policy.ALL,
        max_fps=15.0,
        min_confidence=0.3,
        outputs=(Output.DETECTIONS, Output.ANNOTATED),
        resume="r3sUme-t0ken_",
        resume_s=120.0,
    ),
    "hello_changes": Hello(outputs=(Output.DETECTIONS, Output.CHANGES)),
    "hello_tracks": Hello(outputs=(Output.DETECTIONS, Output.TRACKS)),
    "hello_paced": Hello(policy=Policy.DROP_NEWEST, max_fps=12.5, idle_fps=0.5),
    "hello_tiles": Hello(tiles=True),
    "bye": Bye(),
}

_TIMING = Timing(queue=0.5, decode=2.25, diff=0.125, infer=11.5, total=14.75)

SERVER_MESSAGES: dict[str, ServerMessage] = {
    "ready": Ready(
        stream_id="door",
        model="yolox_nano",
        policy=Policy.LATEST,
        window=2,
        limits=Limits(max_message_bytes=8_388_608, max_pixels=33_554_432),
        resume="r3sUme-t0ken_",
        resumed=False,
        size=(640, 384),
    ),
    "ready_not_resumed": Ready(
        stream_id="door",
        model="yolox_nano",
        policy=Policy.ALL,
        window=2,
        limits=Limits(max_message_bytes=8_388_608, max_pixels=33_554_432),
        resume="r3sUme-t0ken_",
        resumed=False,
        size=(640, 384),
        resume_reason=ResumeReason.EXPIRED,
        resume_s=60.0,
    ),
    "ready_paced": Ready(
        stream_id="door",
        model="yolox_nano",
        policy=Policy.DROP_NEWEST,
        window=2,
        limits=Limits(max_message_bytes=8_388_608, max_pixels=33_554_432),
        resume="r3sUme-t0ken_",
        resumed=True,
        size=(640, 384),
        max_fps=12.5,
    ),
    "ready_tiles": Ready(
        stream_id="door",
        model="yolox_nano",
        policy=Policy.LATEST,
        window=2,
        limits=Limits(max_message_bytes=8_388_608, max_pixels=33_554_432),
        resume="r3sUme-t0ken_",
        resumed=False,
        size=(640, 384),
        tiles=TileRules(tile_px=16, difference=3.0),
    ),
    "result_boxes": Result(
        seq=7,
        ack=7,
        capture_ts_us=1_700_000_000_123_456,
        timing_ms=_TIMING,
        dropped=3,
        compute_fraction=0.125,
        changed_tiles=42,
        decision="partial",
        width=1920,
        height=1080,
        detections=(
            Detection(xyxy=(10.5, 20.0, 110.25, 220.75), score=0.875, class_id=0, label="person"),
            Detection(
                xyxy=(0.0, 0.0, 5.0, 5.0),
                score=0.5,
                class_id=2,
                label="Straßenbahn 🚋",
                keypoints=((1.5, 2.5, 0.75),),
                track_id=9,
            ),
        ),
    ),
    "result_no_boxes": Result(
        seq=8,
        ack=6,
        capture_ts_us=0,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=0.0,
        changed_tiles=0,
        decision="reuse",
        width=640,
        height=480,
        detections=(),
    ),
    "result_classes": Result(
        seq=1,
        ack=1,
        capture_ts_us=5,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=1.0,
        changed_tiles=600,
        decision="keyframe",
        width=224,
        height=224,
        classes=(ClassScore(class_id=281, label="tabby", score=0.75),),
    ),
    "result_masks": Result(
        seq=2,
        ack=2,
        capture_ts_us=6,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=0.25,
        changed_tiles=1,
        decision="partial",
        width=4,
        height=2,
        detections=(Detection(xyxy=(1.0, 0.0, 3.0, 1.0), score=0.75, class_id=1, label="text"),),
        masks=(Mask(class_id=1, label="text", size=(2, 4), counts=(1, 2, 5), xyxy=(0.0, 0.0, 4.0, 2.5)),),
    ),
    "result_tensors": Result(
        seq=3,
        ack=3,
        capture_ts_us=7,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=0.25,
        changed_tiles=1,
        decision="partial",
        width=4,
        height=2,
        tensors=(
            Tensor(name="small", dtype="float32", shape=(1, 3), data=(0.5, -1.0, 2.0)),
            Tensor(name="large", dtype="float32", shape=(1, 512, 80, 80)),
        ),
    ),
    "result_changes": Result(
        seq=4,
        ack=4,
        capture_ts_us=9,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=0.125,
        changed_tiles=3,
        decision="partial",
        width=64,
        height=30,
        detections=(),
        changes=Changes(
            size=(4, 8),
            counts=(2, 3, 27),
            xyxy=(0.0, -1.0, 64.0, 31.0),
            stages=(0.25, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.5),
        ),
    ),
    "result_audit": Result(
        seq=9,
        ack=9,
        capture_ts_us=8,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=1.0,
        changed_tiles=3,
        decision="keyframe",
        width=640,
        height=480,
        detections=(),
        audit=Audit(
            error=0.375,
            allowed=0.0625,
            violation=True,
            age=2,
            audits=12,
            violations=1,
            mean_error=0.046875,
            mean_allowed=0.078125,
            bound=0.75,
            confidence=0.95,
            factor=0.9375,
        ),
    ),
    "result_evicted": Result(
        seq=10,
        ack=10,
        capture_ts_us=1_700_000_000_123_456,
        timing_ms=_TIMING,
        dropped=0,
        compute_fraction=1.0,
        changed_tiles=600,
        decision="keyframe",
        width=640,
        height=480,
        detections=(),
        received_ts_us=1_700_000_000_143_456,
        age_ms=34.75,
        evicted=True,
    ),
    "error_frame": ErrorMessage(code="incomplete_image", detail="JPEG has no end marker", seq=9, ack=9),
    "error_reference": ErrorMessage(code="reference_mismatch", detail="expected tiles on 1, got 2", seq=9, ack=9),
    "error_tiles": ErrorMessage(code="bad_tiles", detail="expected 0 in the reserved byte, got 1", seq=9, ack=9),
    "error_internal": ErrorMessage(code="internal", detail="the frame failed", seq=10, ack=10, error_id="0123456789ab"),
    "error_overloaded": ErrorMessage(code="overloaded", detail="64 streams already", retry_after_ms=2000),
    "ack": Ack(ack=11, dropped=4),
    "draining": Draining(retry_after_ms=1000),
    "moved": Moved(ws_url="ws://10.0.0.7:8001/v1/streams/door/ws"),
    "moved_detail": Moved(ws_url="wss://b.example/v1/streams/door/ws", detail="another server has joined"),
}

_TOKEN = "s3cret token/+"
SUBPROTOCOLS: dict[str, dict[str, Any]] = {
    "json": {"offered": [Encoding.JSON.value], "encoding": "json", "token": None},
    "msgpack": {"offered": [Encoding.MSGPACK.value], "encoding": "msgpack", "token": None},
    "json_with_token": {
        "offered": [Encoding.JSON.value, bearer_subprotocol(_TOKEN)],
        "encoding": "json",
        "token": _TOKEN,
    },
    "first_known_wins": {
        "offered": ["mqtt", Encoding.MSGPACK.value, Encoding.JSON.value],
        "encoding": "msgpack",
        "token": None,
    },
}

# Messages that every codec must refuse: hex of the message, and the error code.
REFUSED_FRAMES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty_message"),
    "one_byte": (b"\x01", "truncated"),
    "header_cut": (bytes.fromhex("01010000010000000000000000000000")[:15], "truncated"),
    "header_only": (bytes.fromhex("01010000010000000000000000000000"), "empty_payload"),
    "version_0": (bytes.fromhex("00010000010000000000000000000000") + _JPEG, "bad_version"),
    "version_2": (bytes.fromhex("02010000010000000000000000000000") + _JPEG, "bad_version"),
    "op_0": (bytes.fromhex("01000000010000000000000000000000") + _JPEG, "unknown_op"),
    "op_255": (bytes.fromhex("01ff0000010000000000000000000000") + _JPEG, "unknown_op"),
    "unknown_flag": (bytes.fromhex("01010200010000000000000000000000") + _JPEG, "bad_flags"),
    "high_flag": (bytes.fromhex("01010080010000000000000000000000") + _JPEG, "bad_flags"),
    "seq_0": (bytes.fromhex("01010000000000000000000000000000") + _JPEG, "bad_seq"),
    "jpeg_cut": (bytes.fromhex("01010000010000000000000000000000") + _JPEG[:-2], "incomplete_image"),
    "text_as_image": (bytes.fromhex("01010000010000000000000000000000") + b"GET / HTTP/1.1", "bad_image"),
}


_TILES_HEADER = bytes.fromhex("01030000010000000000000000000000")
_TILES_HEAD = bytes.fromhex("010000004000300010000100")  # 64x48 in tiles of 16: 4 x 3 of them
REFUSED_TILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty_payload"),
    "head_cut": (_TILES_HEAD[:-1], "bad_tiles"),
    "no_bitmap": (_TILES_HEAD, "bad_tiles"),
    "bitmap_cut": (_TILES_HEAD + b"\x40", "bad_tiles"),
    "width_0": (bytes.fromhex("0100000000003000100001004000") + _JPEG, "bad_tiles"),
    "height_0": (bytes.fromhex("0100000040000000100001004000") + _JPEG, "bad_tiles"),
    "tile_0": (bytes.fromhex("0100000040003000000001004000") + _JPEG, "bad_tiles"),
    "reserved": (bytes.fromhex("0100000040003000100101004000") + _JPEG, "bad_tiles"),
    "columns_without_tiles": (_TILES_HEAD + bytes(2), "bad_tiles"),
    "tiles_without_columns": (bytes.fromhex("0100000040003000100000004000") + _JPEG, "bad_tiles"),
    "mosaic_without_tiles": (bytes.fromhex("0100000040003000100000000000") + _JPEG, "bad_tiles"),
    "tiles_without_mosaic": (_TILES_HEAD + bytes.fromhex("4000"), "bad_tiles"),
    "bit_left_over": (_TILES_HEAD + bytes.fromhex("4001") + _JPEG, "bad_tiles"),
    "mosaic_too_wide": (bytes.fromhex("01000000400030001000ffff4000") + _JPEG, "bad_tiles"),
    "huge_grid": (bytes.fromhex("01000000ffffffff0100010080") + _JPEG, "bad_tiles"),
    "mosaic_cut": (_TILES_HEAD + bytes.fromhex("4000") + _JPEG[:-2], "incomplete_image"),
    "text_as_mosaic": (_TILES_HEAD + bytes.fromhex("4000") + b"GET / HTTP/1.1", "bad_image"),
}
"""Payloads of op 3 that every codec must refuse, and the error code."""


_HERE = "ws://10.0.0.6:8001/v1/streams/door/ws"
_SECURE = "wss://a.example/v1/streams/door/ws"
MOVES: dict[str, tuple[str, str, bool]] = {
    "address_and_port": (_HERE, "ws://10.0.0.7:8001/v1/streams/door/ws", True),
    "itself": (_HERE, _HERE, True),
    "name": (_HERE, "ws://afterimage_2/v1/streams/door/ws", True),
    "ipv6": (_HERE, "ws://[fd00::7]:8001/v1/streams/door/ws", True),
    "below_a_path": (_HERE, "ws://b.example/afterimage/v1/streams/door/ws", True),
    "from_below_a_path": ("ws://a.example/cams/v1/streams/door/ws?x=1", "ws://b.example/v1/streams/door/ws", True),
    "to_tls": (_HERE, "wss://b.example/v1/streams/door/ws", True),
    "tls": (_SECURE, "wss://b.example:8443/v1/streams/door/ws", True),
    "highest_port": (_HERE, "ws://b.example:65535/v1/streams/door/ws", True),
    "from_tls": (_SECURE, "ws://b.example/v1/streams/door/ws", False),
    "http": (_HERE, "http://b.example/v1/streams/door/ws", False),
    "script": (_HERE, "javascript:alert(1)//v1/streams/door/ws", False),
    "upper_case": (_HERE, "WS://b.example/v1/streams/door/ws", False),
    "relative": (_HERE, "/v1/streams/door/ws", False),
    "scheme_relative": (_HERE, "//b.example/v1/streams/door/ws", False),
    "no_host": (_HERE, "ws:///v1/streams/door/ws", False),
    "user": (_HERE, "ws://user@b.example/v1/streams/door/ws", False),
    "password": (_HERE, "ws://a.example:x@b.example/v1/streams/door/ws", False),
    "backslash": (_HERE, "ws://a.example\\@b.example/v1/streams/door/ws", False),
    "port_0": (_HERE, "ws://b.example:0/v1/streams/door/ws", False),
    "port_too_high": (_HERE, "ws://b.example:65536/v1/streams/door/ws", False),
    "port_missing": (_HERE, "ws://b.example:/v1/streams/door/ws", False),
    "port_of_other_digits": (_HERE, "ws://b.example:\u0668\u0660/v1/streams/door/ws", False),
    "other_stream": (_HERE, "ws://10.0.0.7:8001/v1/streams/window/ws", False),
    "other_end": (_HERE, "ws://10.0.0.7:8001/v1/streams/door/ws2", False),
    "no_path": (_HERE, "ws://10.0.0.7:8001", False),
    "query": (_HERE, "ws://10.0.0.7:8001/v1/streams/door/ws?a=b", False),
    "fragment": (_HERE, "ws://10.0.0.7:8001/v1/streams/door/ws#a", False),
    "quoted": (_HERE, "ws://10.0.0.7:8001/v1/streams/%64oor/ws", False),
    "space": (_HERE, "ws://10.0.0.7:8001/v1/streams/door/ws ", False),
    "new_line": (_HERE, "ws://10.0.0.7:8001/v1/streams/door/ws\n", False),
    "tab_within": (_HERE, "ws://10.0.0.7:80\t01/v1/streams/door/ws", False),
    "other_letters": (_HERE, "ws://b\u00e4.example/v1/streams/door/ws", False),
    "nothing": (_HERE, "", False),
}
"""Where a client is, where a `moved` sends it, and whether it may go there."""


def build() -> dict[str, list[dict[str, Any]]]:
    """The contents of each golden file, by its stem."""
    frames = [
        {
            "name": name,
            "hex": encode_frame(frame).hex(),
            "op": int(frame.op),
            "flags": int(frame.flags),
            "seq": str(frame.seq),
            "capture_ts_us": str(frame.capture_ts_us),  # text: JavaScript numbers end at 2**53
            "payload_hex": frame.payload.hex(),
        }
        for name, frame in FRAMES.items()
    ]
    refused = [{"name": name, "hex": data.hex(), "code": code} for name, (data, code) in REFUSED_FRAMES.items()]
    return {
        "frames": frames,
        "refused_frames": refused,
        "tiles": [_tiles(name, tiles) for name, tiles in TILES.items()],
        "refused_tiles": [
            {"name": name, "hex": (_TILES_HEADER + payload).hex(), "code": code}
            for name, (payload, code) in REFUSED_TILES.items()
        ],
        "client_messages": [_message(name, message) for name, message in CLIENT_MESSAGES.items()],
        "server_messages": [_message(name, message) for name, message in SERVER_MESSAGES.items()],
        "moves": [
            {"name": name, "from": url, "ws_url": ws_url, "taken": taken}
            for name, (url, ws_url, taken) in MOVES.items()
        ],
        "subprotocols": [{"name": name, **vector} for name, vector in SUBPROTOCOLS.items()],
    }


def _tiles(name: str, tiles: TilesPayload) -> dict[str, Any]:
    payload = encode_tiles(tiles)
    assert parse_tiles(payload) == tiles
    rows, columns = tiles.grid
    return {
        "name": name,
        "hex": encode_frame(FrameMessage(Op.TILES, Flags.NONE, 1, 0, payload)).hex(),
        "payload_hex": payload.hex(),
        "base": tiles.base,
        "width": tiles.width,
        "height": tiles.height,
        "tile_px": tiles.tile_px,
        "columns": tiles.columns,
        "bitmap_hex": tiles.bitmap.hex(),
        "image_hex": tiles.image.hex(),
        "grid": [rows, columns],
        "count": tiles.count,
        "mosaic_size": list(tiles.mosaic_size),
        "reference": reference_of(payload),
    }


def _message(name: str, message: ClientMessage | ServerMessage) -> dict[str, Any]:
    text = encode_message(message, Encoding.JSON)
    packed = encode_message(message, Encoding.MSGPACK)
    assert isinstance(text, str)
    assert isinstance(packed, bytes)
    return {
        "name": name,
        "json_hex": text.encode().hex(),
        "msgpack_hex": packed.hex(),
        "fields": msgspec.to_builtins(message),
    }


def main() -> None:
    """Write every golden file."""
    GOLDEN.mkdir(exist_ok=True)
    for stem, vectors in build().items():
        path = GOLDEN / f"{stem}.json"
        path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
