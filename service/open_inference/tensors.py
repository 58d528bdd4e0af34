"""Tensors of the Open Inference Protocol: data types, JSON data and binary data. Pure; knows no HTTP and no models.

Specification: https://github.com/kserve/open-inference-protocol, and the binary tensor data extension of Triton.
Nothing is allocated before shape, type and length are known to agree.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_RANK = 8
MAX_STRINGS = 65_536
"""Elements of a BYTES tensor."""

DTYPES = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype(np.uint8),
        "UINT16": np.dtype(np.uint16),
        "UINT32": np.dtype(np.uint32),
        "UINT64": np.dtype(np.uint64),
        "INT8": np.dtype(np.int8),
        "INT16": np.dtype(np.int16),
        "INT32": np.dtype(np.int32),
        "INT64": np.dtype(np.int64),
        "FP16": np.dtype(np.float16),
        "FP32": np.dtype(np.float32),
        "FP64": np.dtype(np.float64),
    }
)
"""Types whose elements have one size; BYTES is the other one."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorError(ValueError):
    """A tensor breaks the protocol; the message names it, what was expected and what came."""


@dataclass(frozen=True)
class Tensor:
    """values : an array of the shape, or for BYTES the elements in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | tuple[bytes, ...]

    @classmethod
    def of(cls, name: str, values: NDArray[Any]) -> Tensor:
        """An array as a tensor. Raises TensorError for a type that the protocol does not have."""
        datatype = _NAMES.get(values.dtype)
        if datatype is None:
            raise TensorError(f"{name}: the protocol has no type for {values.dtype}")
        return cls(name, datatype, tuple(values.shape), values)

    @classmethod
    def of_texts(cls, name: str, texts: Sequence[str]) -> Tensor:
        """A BYTES tensor of one dimension."""
        return cls(name, "BYTES", (len(texts),), tuple(text.encode() for text in texts))

    @property
    def array(self) -> NDArray[Any]:
        """The values of any type but BYTES."""
        assert isinstance(self.values, np.ndarray)
        return self.values

    @property
    def elements(self) -> tuple[bytes, ...]:
        """The values of a BYTES tensor."""
        assert isinstance(self.values, tuple)
        return self.values


def check(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Number of elements. Raises TensorError for a type, rank or size that cannot be."""
    if datatype != "BYTES" and datatype not in DTYPES:
        raise TensorError(f"input {name!r}: expected a datatype of {', '.join(DTYPES)} or BYTES, got {datatype[:32]!r}")
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise TensorError(f"input {name!r}: expected at most {MAX_RANK} sizes of 0 or more, got {list(shape[:16])}")
    count = math.prod(shape)
    if datatype == "BYTES" and count > MAX_STRINGS:
        raise TensorError(f"input {name!r}: expected at most {MAX_STRINGS} elements, got {count}")
    return count


def from_binary(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Tensor:
    """A tensor of little-endian values, or of elements that each follow their length (u32). Shares `data`."""
    count = check(name, datatype, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, tuple(shape), _split(name, count, data))
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        expected = f"{count * dtype.itemsize} bytes of {datatype}{list(shape)}"
        raise TensorError(f"input {name!r}: expected {expected}, got {len(data)}")
    values = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
    return Tensor(name, datatype, tuple(shape), values.reshape(shape))


def _split(name: str, count: int, data: memoryview) -> tuple[bytes, ...]:
    elements: list[bytes] = []
    at = 0
    for _ in range(count):
        if at + 4 > len(data):
            raise TensorError(f"input {name!r}: expected {count} elements, the data ends in number {len(elements)}")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise TensorError(f"input {name!r}: element {len(elements)} has {length} bytes, {len(data) - at} are left")
        elements.append(bytes(data[at : at + length]))
        at += length
    if at != len(data):
        raise TensorError(f"input {name!r}: expected {at} bytes for {count} elements, got {len(data)}")
    return tuple(elements)


def from_json(name: str, datatype: str, shape: Sequence[int], data: object) -> Tensor:
    """A tensor of a JSON list, nested or flat; BYTES as texts in base64."""
    count = check(name, datatype, shape)
    if not isinstance(data, list):
        raise TensorError(f"input {name!r}: expected a list as its data, got {type(data).__name__}")
    if datatype == "BYTES":
        return Tensor(name, datatype, tuple(shape), tuple(_texts(name, count, data)))
    try:
        found = np.asarray(data)
    except ValueError:
        raise TensorError(f"input {name!r}: expected lists of equal lengths, got ragged ones") from None
    dtype = DTYPES[datatype]
    fitting = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if found.size and found.dtype.kind not in fitting:
        raise TensorError(f"input {name!r}: expected numbers of {datatype}, got other values")
    if found.size != count or (found.ndim > 1 and found.shape != tuple(shape)):
        raise TensorError(f"input {name!r}: expected {count} values for {list(shape)}, got {list(found.shape)}")
    if dtype.kind in "iu" and found.size:
        bounds = np.iinfo(dtype.name)
        if int(found.min()) < bounds.min or int(found.max()) > bounds.max:
            raise TensorError(f"input {name!r}: expected values of {bounds.min} to {bounds.max}, got others")
    with np.errstate(over="ignore"):  # too large for the type: infinity, which the reader refuses
        return Tensor(name, datatype, tuple(shape), found.astype(dtype).reshape(shape))


def _texts(name: str, count: int, data: list[Any]) -> list[bytes]:
    flat: list[Any] = data
    while len(flat) == 1 and isinstance(flat[0], list):
        flat = flat[0]
    if len(flat) != count or not all(isinstance(text, str) for text in flat):
        raise TensorError(f"input {name!r}: expected {count} texts in base64, got {len(flat)} values")
    try:
        return [base64.b64decode(text, validate=True) for text in flat]
    except (binascii.Error, ValueError):
        raise TensorError(f"input {name!r}: expected texts in base64; raw bytes need the binary extension") from None


def to_binary(tensor: Tensor) -> bytes:
    """The values as `from_binary` takes them."""
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(element)) + element for element in tensor.elements)
    array = tensor.array
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def to_json(tensor: Tensor) -> list[Any]:
    """The values as a flat list; BYTES as texts."""
    if tensor.datatype == "BYTES":
        return [element.decode("utf-8", "replace") for element in tensor.elements]
    values: list[Any] = tensor.array.reshape(-1).tolist()
    return values
