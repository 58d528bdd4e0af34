"""Binary frames: round trips, and arbitrary bytes give a frame or a WireError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.wire import (
    HEADER_BYTES,
    ErrorCode,
    Flags,
    FrameMessage,
    Op,
    WireError,
    decode_frame,
    encode_frame,
    image_type,
)

jpegs = st.binary(max_size=200).map(lambda body: b"\xff\xd8" + body + b"\xff\xd9")
frames = st.builds(
    FrameMessage,
    op=st.sampled_from([Op.IMAGE, Op.ANNOTATED]),
    flags=st.sampled_from([Flags.NONE, Flags.RESET]),
    seq=st.integers(1, 2**32 - 1),
    capture_ts_us=st.integers(0, 2**64 - 1),
    payload=jpegs,
)


@given(frames)
def test_round_trip(frame: FrameMessage) -> None:
    data = encode_frame(frame)
    assert len(data) == HEADER_BYTES + len(frame.payload)
    assert decode_frame(data) == frame


@given(st.binary(max_size=64))
def test_any_bytes_give_a_frame_or_a_wire_error(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except WireError:
        return
    else:
        assert encode_frame(frame) == data


@given(frames, st.data())
def test_a_changed_byte_never_raises_anything_else(frame: FrameMessage, data: st.DataObject) -> None:
    raw = bytearray(encode_frame(frame))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    error = None
    try:
        decode_frame(bytes(raw))
    except WireError as caught:
        error = caught
    assert error is None or error.seq is None or 1 <= error.seq < 2**32


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (FrameMessage(Op.IMAGE, Flags.NONE, 0, 0, b"x"), ErrorCode.BAD_SEQ),
        (FrameMessage(Op.IMAGE, Flags.NONE, 2**32, 0, b"x"), ErrorCode.BAD_SEQ),
        (FrameMessage(Op.IMAGE, Flags.NONE, 1, -1, b"x"), ErrorCode.BAD_MESSAGE),
        (FrameMessage(Op.IMAGE, Flags.NONE, 1, 2**64, b"x"), ErrorCode.BAD_MESSAGE),
        (FrameMessage(Op.IMAGE, Flags.NONE, 1, 0, b""), ErrorCode.EMPTY_PAYLOAD),
    ],
)
def test_fields_out_of_range_are_not_encoded(frame: FrameMessage, code: ErrorCode) -> None:
    with pytest.raises(WireError) as caught:
        encode_frame(frame)
    assert caught.value.code is code


def test_a_refused_frame_keeps_its_sequence_number() -> None:
    data = encode_frame(FrameMessage(Op.IMAGE, Flags.NONE, 77, 0, b"\xff\xd8\xff\xd9"))
    with pytest.raises(WireError) as caught:
        decode_frame(data[:-1])
    assert caught.value.seq == 77
    with pytest.raises(WireError) as caught:
        decode_frame(data[:9])
    assert caught.value.seq == 77
    with pytest.raises(WireError) as caught:
        decode_frame(data[:7])
    assert caught.value.seq is None


def test_image_types_and_camera_padding() -> None:
    assert image_type(b"\xff\xd8 body \xff\xd9") == "image/jpeg"
    assert image_type(b"\xff\xd8 body \xff\xd9" + bytes(511)) == "image/jpeg"
    with pytest.raises(WireError, match="cut short"):
        image_type(b"\xff\xd8 body" + bytes(511))
    with pytest.raises(WireError, match="expected a JPEG, PNG or WebP"):
        image_type(b"")


def test_text_form_leaves_the_payload_out() -> None:
    frame = FrameMessage(Op.IMAGE, Flags.RESET, 5, 0, b"\xff\xd8" + bytes(1000) + b"\xff\xd9")
    assert str(frame) == "IMAGE seq=5 flags=1 [1004 bytes]"
