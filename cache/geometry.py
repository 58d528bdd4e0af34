"""Which input rows and columns an output row or column depends on, and where they lie: pure functions.

Everything is one axis at a time: two-dimensional windows are products of two axes. Sizes in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Span:
    """Inclusive input range of each output position along one axis; empty where low > high.

    low, high : int32[outputs], inside the input. step : distance between the positions that count (dilation).
    stride, taps, offset : where stride is not 0, output x sees x * stride + offset + t * step for t below `taps`, as
    far as that lies inside the input.
    """

    low: Index
    high: Index
    step: int = 1
    stride: int = 0
    taps: int = 0
    offset: int = 0

    def __len__(self) -> int:
        return int(self.low.size)


def identity(size: int) -> Span:
    """Every output depends on the input at its own position."""
    index = np.arange(size, dtype=np.int32)
    return Span(index, index, 1, 1, 1, 0)


def everything(inputs: int, outputs: int) -> Span:
    """Every output depends on every input (global pooling, broadcast)."""
    return Span(np.zeros(outputs, np.int32), np.full(outputs, inputs - 1, np.int32))


def window(inputs: int, outputs: int, kernel: int, stride: int, dilation: int, pad: int) -> Span:
    """Sliding window of a convolution or pooling; `pad` positions before the input."""
    first = np.arange(outputs, dtype=np.int64) * stride - pad
    last = first + (kernel - 1) * dilation
    # Stay on the positions the window really reads.
    low = np.where(first < 0, first + (-first + dilation - 1) // dilation * dilation, first)
    high = np.where(last >= inputs, last - (last - inputs + dilation) // dilation * dilation, last)
    empty = (low >= inputs) | (high < 0)
    low, high = np.where(empty, 1, low), np.where(empty, 0, high)
    return Span(low.astype(np.int32), high.astype(np.int32), dilation, stride, kernel, -pad)


def transposed_window(inputs: int, outputs: int, kernel: int, stride: int, dilation: int, pad: int) -> Span:
    """Inputs that reach an output of a transposed convolution (a superset where taps skip some)."""
    at = np.arange(outputs, dtype=np.int64) + pad
    low = -((-(at - (kernel - 1) * dilation)) // stride)
    high = at // stride
    return Span(np.maximum(low, 0).astype(np.int32), np.minimum(high, inputs - 1).astype(np.int32))


def gather(index: Index, other: Index | None = None) -> Span:
    """Outputs that read one (or two neighbouring) listed input positions; -1 reads nothing."""
    last = index if other is None else other
    low, high = np.minimum(index, last), np.maximum(index, last)
    return Span(np.where(low < 0, 1, low).astype(np.int32), np.where(low < 0, 0, high).astype(np.int32))


def reach(inputs: int, outputs: int, kernel: int, stride: int, dilation: int, pad: int) -> tuple[int, int]:
    """Border (before, after) that lets a window kernel read without testing for the edge."""
    after = (outputs - 1) * stride - pad + (kernel - 1) * dilation - (inputs - 1)
    return max(pad, 0), max(after, 0)


def phase_taps(phase: int, kernel: int, stride: int, dilation: int, pad: int) -> list[tuple[int, int]]:
    """Taps (kernel index, input offset) of the outputs at `phase` modulo `stride` of a transposed convolution.

    Output y = cell * stride + phase reads the input at cell + offset. An empty list means bias alone.
    """
    taps = []
    for k in range(kernel):
        distance = phase + pad - k * dilation
        if distance % stride == 0:
            taps.append((k, distance // stride))
    return taps


def source_positions(outputs: int, inputs: int, scale: float, coordinate: str) -> npt.NDArray[np.float32]:
    """Input coordinate of each output position of a resize, in the arithmetic of ONNX Runtime (float32).

    scale : outputs per input position. Source: ONNX `Resize`, `coordinate_transformation_mode`.
    """
    x = np.arange(outputs, dtype=np.float32)
    s = np.float32(scale)
    half = np.float32(0.5)
    if coordinate == "asymmetric":
        result = x / s
    elif coordinate == "half_pixel":
        result = (x + half) / s - half
    elif coordinate == "pytorch_half_pixel":
        result = (x + half) / s - half if outputs > 1 else np.zeros(1, np.float32)
    elif coordinate == "align_corners":
        result = x * np.float32(inputs - 1) / np.float32(outputs - 1) if outputs > 1 else np.zeros(1, np.float32)
    elif coordinate == "half_pixel_symmetric":
        adjustment = np.float32(outputs) / (s * np.float32(inputs))
        centre = np.float32(inputs) / np.float32(2)
        result = centre * (np.float32(1) - adjustment) + (x + half) / s - half
    else:
        raise ValueError(f"unknown resize coordinates: {coordinate!r}")
    return np.asarray(result, np.float32)


def nearest_index(position: npt.NDArray[np.float32], inputs: int, mode: str) -> Index:
    """Input index that a nearest resize copies; `mode` as ONNX `nearest_mode`."""
    if mode == "floor":
        index = np.floor(position)
    elif mode == "ceil":
        index = np.ceil(position)
    elif mode == "round_prefer_floor":
        index = np.ceil(position - np.float32(0.5))
    elif mode == "round_prefer_ceil":
        index = np.floor(position + np.float32(0.5))
    else:
        raise ValueError(f"unknown nearest mode: {mode!r}")
    return np.clip(index, 0, inputs - 1).astype(np.int32)


def linear_index(position: npt.NDArray[np.float32], inputs: int) -> tuple[Index, Index, npt.NDArray[np.float32]]:
    """The two input positions a linear resize mixes, and the weight of the second."""
    clipped = np.clip(position, 0, np.float32(inputs - 1))
    low = np.minimum(np.floor(clipped), inputs - 1).astype(np.int32)
    high = np.minimum(low + 1, inputs - 1).astype(np.int32)
    weight = (clipped - low.astype(np.float32)).astype(np.float32)
    return low, high, np.where(high == low, np.float32(0), weight).astype(np.float32)
