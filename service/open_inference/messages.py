"""Requests and replies of the Open Inference Protocol: from bytes and to bytes. Pure; knows no HTTP and no models."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.open_inference.tensors import Tensor, TensorError, from_binary, from_json, to_binary, to_json

MAX_TENSORS = 64
"""Inputs, and outputs, of one request."""

Parameters = Mapping[str, Any]


class MessageError(ValueError):
    """A request breaks the protocol; the message says what was expected and what came."""


class TooLarge(MessageError):
    """A compressed body holds more than is taken."""


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


@dataclass(frozen=True)
class Request:
    """inputs : by name. outputs : names that are asked for, and whether in binary form; empty: all of them.

    binary : the form of outputs that are not asked for by name
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, bool]
    binary: bool = False
    id: str = ""
    parameters: Parameters = field(default_factory=dict)


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """A body as it was before `Content-Encoding`: identity, gzip or deflate; at most `limit` bytes are made of it.

    Raises LookupError for another encoding, TooLarge, or MessageError for a body that is not of that encoding.
    """
    if encoding in ("", "identity"):
        return body
    inflater = zlib.decompressobj({"gzip": 31, "deflate": zlib.MAX_WBITS}[encoding])
    try:
        found = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise MessageError(f"expected a body in {encoding}, got another: {error}") from None
    if len(found) > limit:
        raise TooLarge(f"expected at most {limit} bytes, the body holds more in {encoding}")
    if not inflater.eof or inflater.unused_data:
        raise MessageError(f"expected a whole body in {encoding}, got one that ends too early or goes on after its end")
    return found


def decode(body: bytes, header_length: int | None = None) -> Request:
    """A request for inference; binary data follows the first `header_length` bytes (None: there is none).

    Raises MessageError or TensorError.
    """
    if header_length is not None and not 0 < header_length <= len(body):
        raise MessageError(f"Inference-Header-Content-Length: expected 1 to {len(body)}, got {header_length}")
    view = memoryview(body)
    try:
        found = msgspec.json.decode(view[:header_length], type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(f"not an inference request: {error}") from None
    if not 1 <= len(found.inputs) <= MAX_TENSORS or len(found.outputs) > MAX_TENSORS:
        counts = f"{len(found.inputs)} inputs, {len(found.outputs)} outputs"
        raise MessageError(f"expected 1 to {MAX_TENSORS} inputs and at most {MAX_TENSORS} outputs, got {counts}")
    _refuse(found.parameters, ("sequence_id",), "frames that belong together go to a stream, not here")
    inputs = _inputs(found.inputs, view[header_length:] if header_length is not None else view[:0])
    binary = _flag(found.parameters, "binary_data_output", False)
    outputs: dict[str, bool] = {}
    for output in found.outputs:
        if output.name in outputs:
            raise MessageError(f"expected each output once, got {output.name[:128]!r} again")
        _refuse(output.parameters, ("classification", "shared_memory_region"), f"output {output.name[:128]!r}")
        outputs[output.name] = _flag(output.parameters, "binary_data", binary)
    return Request(inputs, outputs, binary, found.id, found.parameters)


def _inputs(found: Sequence[_Input], rest: memoryview) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}
    for item in found:
        name = item.name[:128]
        if item.name in inputs:
            raise MessageError(f"expected each input once, got {name!r} again")
        _refuse(item.parameters, ("shared_memory_region",), f"input {name!r}")
        size = item.parameters.get("binary_data_size")
        if size is None:
            if item.data is msgspec.UNSET:
                raise TensorError(f"input {name!r}: expected data, or binary_data_size and binary data")
            inputs[item.name] = from_json(name, item.datatype, item.shape, item.data)
            continue
        if item.data is not msgspec.UNSET:
            raise TensorError(f"input {name!r}: expected data or binary_data_size, got both")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
            raise TensorError(f"input {name!r}: binary_data_size: expected 0 to {len(rest)} bytes, got {size!r:.32}")
        inputs[item.name] = from_binary(name, item.datatype, item.shape, rest[:size])
        rest = rest[size:]
    if len(rest):
        raise MessageError(f"{len(rest)} bytes are left over after the last input's binary data")
    return inputs


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MessageError(f"{name}: expected true or false, got {value!r:.32}")
    return value


def _refuse(parameters: Parameters, names: Sequence[str], where: str) -> None:
    for name in names:
        if name in parameters:
            raise MessageError(f"the parameter {name} is not supported: {where}")


def encode(model: str, version: int, request: Request, tensors: Sequence[Tensor]) -> tuple[bytes, int | None]:
    """A reply's body, and the length of its header where binary data follows."""
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for tensor in tensors:
        told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if request.outputs.get(tensor.name, request.binary):
            blobs.append(to_binary(tensor))
            told["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            told["data"] = to_json(tensor)
        outputs.append(told)
    reply: dict[str, Any] = {"model_name": model, "model_version": str(version), "outputs": outputs}
    if request.id:
        reply["id"] = request.id
    header = msgspec.json.encode(reply)
    return b"".join([header, *blobs]), len(header) if blobs else None
