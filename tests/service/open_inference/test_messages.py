"""Requests and replies as bytes: JSON, the binary extension, compressed bodies, and everything that is refused."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.open_inference.messages import MessageError, Request, TooLarge, decode, encode, inflate
from service.open_inference.tensors import Tensor, TensorError


def body(*inputs: dict, **fields: object) -> bytes:
    return json.dumps({"inputs": list(inputs), **fields}).encode()


def x(**fields: object) -> dict:
    return {"name": "x", "shape": [2], "datatype": "FP32", **fields}


def test_a_request_in_json() -> None:
    request = decode(body(x(data=[1, 2]), id="seven", parameters={"min_confidence": 0.5}, outputs=[{"name": "y"}]))
    assert request.inputs["x"].array.tolist() == [1, 2]
    assert (request.id, request.parameters["min_confidence"]) == ("seven", 0.5)
    assert (dict(request.outputs), request.binary) == ({"y": False}, False)


def test_a_request_with_binary_data() -> None:
    second = {"name": "z", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}}
    header = body(
        x(parameters={"binary_data_size": 8}), second, parameters={"binary_data_output": True},
        outputs=[{"name": "y"}, {"name": "t", "parameters": {"binary_data": False}}],
    )  # fmt: skip
    data = np.asarray([3, 4], "<f4").tobytes() + b"\x03\x00\x00\x00abc"
    request = decode(header + data, len(header))
    assert request.inputs["x"].array.tolist() == [3, 4]
    assert request.inputs["z"].elements == (b"abc",)
    assert dict(request.outputs) == {"y": True, "t": False}


@pytest.mark.parametrize(
    ("message", "length", "says"),
    [
        (b"", None, "not an inference request"),
        (b"[]", None, "not an inference request"),
        (b'{"inputs": []}', None, "expected 1 to 64 inputs"),
        (body(*[x(data=[1, 2], name=str(n)) for n in range(65)]), None, "got 65 inputs"),
        (body(x(data=[1, 2]), x(data=[1, 2])), None, "each input once"),
        (body(x(data=[1, 2]), outputs=[{"name": "y"}] * 2), None, "each output once"),
        (body(x()), None, "expected data, or binary_data_size"),
        (body(x(data=[1, 2], parameters={"binary_data_size": 0})), None, "got both"),
        (body(x(parameters={"binary_data_size": 8})), None, "expected 0 to 0 bytes, got 8"),
        (body(x(parameters={"binary_data_size": -1})), None, "binary_data_size"),
        (body(x(parameters={"binary_data_size": True})), None, "binary_data_size"),
        (body(x(data=[1, 2])) + b"1234", len(body(x(data=[1, 2]))), "4 bytes are left over"),
        (body(x(data=[1, 2])), 0, "expected 1 to"),
        (body(x(data=[1, 2])), 10_000, "got 10000"),
        (body(x(data=[1, 2]), parameters={"sequence_id": 1}), None, "sequence_id is not supported"),
        (body(x(data=[1, 2]), parameters={"binary_data_output": 1}), None, "expected true or false"),
        (body(x(data=[1, 2], parameters={"shared_memory_region": "r"})), None, "shared_memory_region"),
        (body(x(data=[1, 2]), outputs=[{"name": "y", "parameters": {"classification": 3}}]), None, "classification"),
    ],
)
def test_what_is_no_request(message: bytes, length: int | None, says: str) -> None:
    with pytest.raises((MessageError, TensorError), match=says):
        decode(message, length)


@given(st.binary(max_size=80), st.none() | st.integers(0, 90))
def test_any_bytes_are_refused_with_a_reason(data: bytes, length: int | None) -> None:
    with pytest.raises((MessageError, TensorError)):
        decode(data, length)


def test_a_reply_in_both_forms() -> None:
    y, t = Tensor.of("y", np.asarray([1.5, 2], np.float32)), Tensor.of_texts("t", ["a", "é"])
    plain, length = encode("m", 3, Request({}, {}, id="seven"), [y, t])
    assert length is None
    assert json.loads(plain) == {
        "model_name": "m",
        "model_version": "3",
        "id": "seven",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.5, 2.0]},
            {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "é"]},
        ],
    }
    mixed, length = encode("m", 3, Request({}, {"y": False, "t": True}), [y, t])
    assert length is not None
    header = json.loads(mixed[:length])
    assert "id" not in header
    assert header["outputs"][0]["data"] == [1.5, 2.0]
    assert header["outputs"][1]["parameters"] == {"binary_data_size": len(mixed) - length}
    assert mixed[length:] == b"\x01\x00\x00\x00a\x02\x00\x00\x00\xc3\xa9"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_bounded(encoding: str, pack) -> None:
    assert inflate(pack(b"a" * 100), encoding, 100) == b"a" * 100
    with pytest.raises(TooLarge, match="at most 100 bytes"):
        inflate(pack(bytes(50_000_000)), encoding, 100)
    with pytest.raises(MessageError, match="ends too early"):
        inflate(pack(b"abc")[:-1], encoding, 100)
    with pytest.raises(MessageError, match="goes on after its end"):
        inflate(pack(b"abc") + b"x", encoding, 100)
    with pytest.raises(MessageError, match=f"expected a body in {encoding}"):
        inflate(b"plain", encoding, 100)


def test_other_encodings() -> None:
    assert inflate(b"abc", "identity", 1) == b"abc", "what came plain was bounded when it was read"
    with pytest.raises(LookupError):
        inflate(b"abc", "br", 100)
