"""Structured messages: bounds are enforced, errors are plain, and nothing else than WireError comes out."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.wire import (
    Changes,
    Detection,
    Encoding,
    ErrorCode,
    Hello,
    Output,
    Policy,
    Result,
    Timing,
    WireError,
    decode_client_message,
    decode_server_message,
    encode_message,
)

hellos = st.builds(
    Hello,
    model=st.none() | st.text(min_size=1, max_size=128),
    content_type=st.sampled_from(["image/jpeg", "image/png", "image/webp"]),
    policy=st.sampled_from(Policy),
    max_fps=st.none() | st.floats(0.001, 1000),
    min_confidence=st.none() | st.floats(0, 1),
    outputs=st.lists(st.sampled_from(Output), max_size=8).map(tuple),
    resume=st.none() | st.text(min_size=1, max_size=256),
)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
detections = st.builds(
    Detection,
    xyxy=st.tuples(numbers, numbers, numbers, numbers),
    score=numbers,
    class_id=st.integers(0, 10_000),
    label=st.text(max_size=20),
    track_id=st.none() | st.integers(0, 1000),
)
changes = st.builds(
    Changes,
    size=st.just((2, 3)),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=6).map(tuple),
    xyxy=st.tuples(numbers, numbers, numbers, numbers),
    stages=st.lists(st.floats(0, 1), max_size=8).map(tuple),
)
results = st.builds(
    Result,
    seq=st.integers(0, 2**32 - 1),
    ack=st.integers(0, 2**32 - 1),
    capture_ts_us=st.integers(0, 2**64 - 1),
    timing_ms=st.builds(Timing, queue=numbers, decode=numbers, diff=numbers, infer=numbers, total=numbers),
    dropped=st.integers(0, 2**31),
    compute_fraction=numbers,
    changed_tiles=st.integers(0, 10_000),
    decision=st.sampled_from(["keyframe", "partial", "reuse"]),
    width=st.integers(0, 20_000),
    height=st.integers(0, 20_000),
    detections=st.lists(detections, max_size=5).map(tuple),
    changes=st.none() | changes,
)


@pytest.mark.parametrize("encoding", list(Encoding))
@given(hello=hellos)
def test_hello_round_trip(encoding: Encoding, hello: Hello) -> None:
    try:
        data = encode_message(hello, encoding)
    except UnicodeEncodeError:
        return  # lone surrogates are no text
    assert decode_client_message(data, encoding) == hello
    assert isinstance(data, str) is (encoding is Encoding.JSON)


@pytest.mark.parametrize("encoding", list(Encoding))
@given(result=results)
def test_result_round_trip(encoding: Encoding, result: Result) -> None:
    assert decode_server_message(encode_message(result, encoding), encoding) == result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "got 0 bytes"),
        ("hello", "malformed"),
        ("{}", "type"),
        ('{"type":"hallo"}', "hallo"),
        ('{"type":"hello","policy":"fastest"}', "fastest"),
        ('{"type":"hello","min_confidence":1.5}', "<= 1.0"),
        ('{"type":"hello","max_fps":0}', "> 0"),
        ('{"type":"hello","max_fps":1e999}', "range"),
        ('{"type":"hello","model":""}', "length"),
        ('{"type":"hello","content_type":"video/mp4"}', "video/mp4"),
        ('{"type":"hello","outputs":["detections","smell"]}', "smell"),
        ("[" * 5000, "object"),
        ('{"type":"hello","x":' + "[" * 5000, "deep"),
        ('{"type":"hello"} {}', "trailing"),
    ],
)
def test_bad_client_messages_say_what_is_wrong(text: str, expected: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_client_message(text, Encoding.JSON)
    assert expected in caught.value.detail


def test_nan_is_no_confidence() -> None:
    data = msgspec.msgpack.encode({"type": "hello", "min_confidence": float("nan")})
    with pytest.raises(WireError, match="min_confidence"):
        decode_client_message(data, Encoding.MSGPACK)


def test_too_long_a_message_is_not_parsed() -> None:
    with pytest.raises(WireError) as caught:
        decode_client_message(json.dumps({"type": "hello", "model": "x" * 20_000}), Encoding.JSON)
    assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE


def test_unknown_fields_are_ignored() -> None:
    assert decode_client_message('{"type":"hello","colour":"blue"}', Encoding.JSON) == Hello()


@given(st.binary(max_size=100), st.sampled_from(Encoding))
def test_any_bytes_give_a_message_or_a_wire_error(data: bytes, encoding: Encoding) -> None:
    for decode in (decode_client_message, decode_server_message):
        error = None
        try:
            decode(data, encoding)
        except WireError as caught:
            error = caught
        assert error is None or error.detail
