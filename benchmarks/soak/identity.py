"""Frames that carry their identity, and a model that reads it: a result tells which frame of which stream it is of.

An identity is 64 bits in black and white squares: the stream, the frame's number, and a checksum of both. The model
averages each square, through two convolutions that the engine caches like any other.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import onnx
import simplejpeg
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from clients.wire import Result

SQUARE = 16
COLUMNS, ROWS = 20, 12
SIZE = (COLUMNS * SQUARE, ROWS * SQUARE)
STREAM_BITS, NUMBER_BITS, CHECK_BITS = 16, 24, 24


class Crossed(AssertionError):
    """A result shows another frame than the one it answers."""


def write_model(folder: Path) -> Path:
    """Write the model and its specification into a folder; the ONNX file's path."""
    first = np.zeros((16, 3, 4, 4), np.float32)
    first[:] = 1 / 48  # every channel the mean of four by four pixels, or of a part of them
    first[1:, 0] *= np.linspace(0.1, 2.0, 15, dtype=np.float32)[:, None, None]
    second = np.zeros((1, 16, 4, 4), np.float32)
    second[0, 0] = 1 / 16
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["squares"], strides=[4, 4]),
    ]
    graph = helper.make_graph(
        nodes, "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE[1], SIZE[0]])],
        [helper.make_tensor_value_info("squares", TensorProto.FLOAT, [1, 1, ROWS, COLUMNS])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )  # fmt: skip
    path = folder / "identity.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    path.with_suffix(".toml").write_text('family = "raw"\nfit = "stretch"\nmean = 0.0\nstd = 1.0\n')
    return path


def picture(stream: int, number: int) -> NDArray[np.uint8]:
    """The frame of a stream's number as pixels, uint8[H, W, 3]: white squares are ones."""
    squares = np.full(ROWS * COLUMNS, 127, np.uint8)
    squares[: STREAM_BITS + NUMBER_BITS + CHECK_BITS] = 255 * _bits(stream, number)
    grey = np.kron(squares.reshape(ROWS, COLUMNS), np.ones((SQUARE, SQUARE), np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def frame(stream: int, number: int) -> bytes:
    """The same as a JPEG."""
    return bytes(simplejpeg.encode_jpeg(picture(stream, number), quality=90, colorspace="BGR"))


def read(result: Result) -> tuple[int, int]:
    """Stream and number of the frame that a result shows. Raises Crossed where its checksum is wrong: parts of two."""
    assert result.tensors is not None
    values = result.tensors[0].data
    assert values is not None
    bits = np.array([value is not None and value > 127 for value in values[: STREAM_BITS + NUMBER_BITS + CHECK_BITS]])
    stream, number = _number(bits[:STREAM_BITS]), _number(bits[STREAM_BITS : STREAM_BITS + NUMBER_BITS])
    if not np.array_equal(bits, _bits(stream, number)):
        raise Crossed(f"a result shows squares of no frame; nearest stream {stream}, frame {number}")
    return stream, number


def check(result: Result, stream: int, number: int) -> None:
    """Raise Crossed unless a result shows that frame."""
    shown = read(result)
    if shown != (stream, number):
        raise Crossed(f"expected frame {number} of stream {stream}, got frame {shown[1]} of stream {shown[0]}")


def _bits(stream: int, number: int) -> NDArray[np.bool_]:
    content = stream.to_bytes(STREAM_BITS // 8, "big") + number.to_bytes(NUMBER_BITS // 8, "big")
    return np.unpackbits(np.frombuffer(content + zlib.crc32(content).to_bytes(4, "big")[1:], np.uint8)).astype(bool)


def _number(bits: NDArray[np.bool_]) -> int:
    return int("".join("1" if bit else "0" for bit in bits), 2)
