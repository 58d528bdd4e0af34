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
    Output,
    Policy,
    Ready,
    Result,
    ResumeReason,
    ServerMessage,
    Tensor,
    Timing,
    encode_message,
)

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
    "error_internal": ErrorMessage(code="internal", detail="the frame failed", seq=10, ack=10, error_id="0123456789ab"),
    "error_overloaded": ErrorMessage(code="overloaded", detail="64 streams already", retry_after_ms=2000),
    "ack": Ack(ack=11, dropped=4),
    "draining": Draining(retry_after_ms=1000),
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
        "client_messages": [_message(name, message) for name, message in CLIENT_MESSAGES.items()],
        "server_messages": [_message(name, message) for name, message in SERVER_MESSAGES.items()],
        "subprotocols": [{"name": name, **vector} for name, vector in SUBPROTOCOLS.items()],
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
