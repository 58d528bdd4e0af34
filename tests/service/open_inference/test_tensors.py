"""Tensors: every type there and back, and what cannot be is refused before anything is made of it."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.open_inference.tensors import (
    DTYPES,
    MAX_STRINGS,
    Tensor,
    TensorError,
    from_binary,
    from_json,
    to_binary,
    to_json,
)


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_type_there_and_back(datatype: str) -> None:
    values = np.asarray([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[datatype])
    tensor = Tensor.of("x", values)
    assert (tensor.datatype, tensor.shape) == (datatype, (2, 3))
    data = to_binary(tensor)
    assert len(data) == 6 * values.dtype.itemsize
    for back in (
        from_binary("x", datatype, [2, 3], memoryview(data)),
        from_json("x", datatype, [2, 3], to_json(tensor)),
    ):
        assert back.array.dtype == values.dtype
        assert np.array_equal(back.array, values)


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_elements_of_bytes_there_and_back(elements: list[bytes]) -> None:
    tensor = Tensor("x", "BYTES", (len(elements),), tuple(elements))
    assert from_binary("x", "BYTES", tensor.shape, memoryview(to_binary(tensor))).elements == tuple(elements)
    texts = [base64.b64encode(element).decode() for element in elements]
    assert from_json("x", "BYTES", tensor.shape, texts).elements == tuple(elements)


@given(st.binary(max_size=64), st.integers(0, 5))
def test_any_bytes_are_elements_or_refused(data: bytes, count: int) -> None:
    try:
        tensor = from_binary("x", "BYTES", [count], memoryview(data))
    except TensorError:
        return
    assert to_binary(tensor) == data


def test_nested_and_flat_lists_are_the_same() -> None:
    nested = from_json("x", "FP32", [2, 2], [[1, 2], [3, 4.5]])
    assert np.array_equal(nested.array, from_json("x", "FP32", [2, 2], [1, 2, 3, 4.5]).array)
    assert nested.array.shape == (2, 2)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP31", [1], [1], "expected a datatype of BOOL"),
        ("FP32", [-1], [1], "sizes of 0 or more"),
        ("FP32", [1] * 9, [1], "at most 8 sizes"),
        ("FP32", [2], [1], r"expected 2 values for \[2\], got \[1\]"),
        ("FP32", [4], [[1, 2], [3, 4]], r"expected 4 values for \[4\], got \[2, 2\]"),
        ("FP32", [2, 2], [[1, 2], [3]], "ragged"),
        ("FP32", [1], ["1"], "expected numbers of FP32"),
        ("FP32", [1], [None], "expected numbers of FP32"),
        ("FP32", [1], {"a": 1}, "expected a list as its data, got dict"),
        ("UINT8", [1], [1.5], "expected numbers of UINT8"),
        ("UINT8", [1], [256], "expected values of 0 to 255"),
        ("INT8", [1], [-129], "expected values of -128 to 127"),
        ("BOOL", [1], [1], "expected numbers of BOOL"),
        ("BYTES", [2], ["aa=="], "expected 2 texts in base64, got 1"),
        ("BYTES", [1], [1], "expected 1 texts in base64"),
        ("BYTES", [1], ["no base64!"], "raw bytes need the binary extension"),
        ("BYTES", [MAX_STRINGS + 1], [], "expected at most 65536 elements"),
    ],
)
def test_json_that_is_no_such_tensor(datatype: str, shape: list[int], data: object, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        from_json("x", datatype, shape, data)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", [2], bytes(7), r"expected 8 bytes of FP32\[2\], got 7"),
        ("FP32", [1 << 40, 1 << 40], bytes(8), "got 8"),
        ("BYTES", [1], b"\x01\x00\x00", "the data ends in number 0"),
        ("BYTES", [1], b"\x05\x00\x00\x00ab", "element 0 has 5 bytes, 2 are left"),
        ("BYTES", [1], b"\x01\x00\x00\x00abc", "expected 5 bytes for 1 elements, got 7"),
    ],
)
def test_binary_data_that_is_no_such_tensor(datatype: str, shape: list[int], data: bytes, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        from_binary("x", datatype, shape, memoryview(data))


def test_binary_data_is_not_copied() -> None:
    data = bytearray(np.arange(4, dtype="<f4").tobytes())
    tensor = from_binary("x", "FP32", [4], memoryview(data))
    data[0:4] = np.float32(9).tobytes()
    assert tensor.array[0] == 9


def test_a_type_that_the_protocol_lacks() -> None:
    with pytest.raises(TensorError, match="no type for complex64"):
        Tensor.of("x", np.zeros(1, np.complex64))
