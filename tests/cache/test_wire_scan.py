"""Protobuf before it is parsed: fields and depth counted, strings and numbers passed over."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from cache.model import ModelError
from cache.wire_scan import NotProtobuf, check_fields
from tests.cache.onnx_models import build, node, weights

KIND = onnx.ModelProto.DESCRIPTOR


def test_a_model_passes_and_its_fields_are_counted() -> None:
    data = build([node("Conv", "x w", "y")], {"w": weights(2, 4, 3, 3)})
    check_fields(data, KIND)
    count = next(n for n in range(1, 1000) if passes(data, n))
    assert 20 < count < 80
    with pytest.raises(ModelError, match=f"at most {count - 1} fields"):
        check_fields(data, KIND, max_fields=count - 1)


def passes(data: bytes, max_fields: int) -> bool:
    try:
        check_fields(data, KIND, max_fields)
    except ModelError:
        return False
    return True


def test_depth_is_bounded() -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(4):
        inner = helper.make_graph([helper.make_node("If", ["c"], [], body=inner)], "g", [], [])
    data = onnx.ModelProto(graph=inner).SerializeToString()
    check_fields(data, KIND, max_depth=2 + 3 * 4)
    with pytest.raises(ModelError, match="too deep"):
        check_fields(data, KIND, max_depth=1 + 3 * 4)


def test_bytes_within_a_tensor_are_not_looked_at() -> None:
    tensor = onnx.TensorProto(raw_data=b"\x0a\x00" * 1000)
    data = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor])).SerializeToString()
    check_fields(data, KIND, max_fields=3)
    with pytest.raises(ModelError, match="at most 2 fields"):
        check_fields(data, KIND, max_fields=2)


@pytest.mark.parametrize(
    "data", [b"\xff" * 20, b"\x0b", b"\x3a\x05\x0a", b"\x3a", b"\x0d\x00", b"\x3a\x04\x0a\x7f\x00\x00"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(NotProtobuf):
        check_fields(data, KIND)


def test_what_the_parser_takes_passes() -> None:
    """Every beginning of a model: some of them are messages."""
    data = build([node("Conv", "x w", "y")], {"w": weights(2, 4, 3, 3)})
    taken = 0
    for end in range(len(data) + 1):
        try:
            onnx.load_model_from_string(data[:end])
        except Exception:
            continue
        taken += 1
        check_fields(data[:end], KIND)
    assert 1 < taken < len(data)


@given(st.binary(max_size=200))
def test_whatever_the_parser_takes_passes(data: bytes) -> None:
    try:
        check_fields(data, KIND)
    except (NotProtobuf, ModelError):
        with pytest.raises(Exception, match=r"(?i)pars"):
            onnx.load_model_from_string(data)
