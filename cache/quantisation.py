"""What a byte stands for, and functions of one byte as tables of 256: NumPy only, rounding as ONNX Runtime does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.graph import Activation

Floats = npt.NDArray[np.float32]
Table = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Quantisation:
    """A value q of a byte tensor stands for (q - zero_point) * scale; scale is a float32 held as a Python float."""

    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    @property
    def offset(self) -> int:
        """What is added to a value to store it as uint8."""
        return 128 if self.dtype == np.int8 else 0

    def dequantise(self, values: npt.NDArray[Any]) -> Floats:
        """float32 of values."""
        shifted = (values.astype(np.int32) - self.zero_point).astype(np.float32)
        return np.asarray(shifted * np.float32(self.scale), np.float32)

    def quantise(self, x: Floats) -> npt.NDArray[np.int32]:
        """Values of float32: rounded half to even, limited to the type's range."""
        low, high = quantised_range(self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.rint(x / np.float32(self.scale)).astype(np.float64) + self.zero_point
        return np.asarray(np.clip(np.nan_to_num(ratio, nan=low), low, high), np.int32)

    @property
    def every_value(self) -> npt.NDArray[np.int32]:
        """int32[256]: the value of each stored byte."""
        return np.arange(256, dtype=np.int32) - self.offset

    def store(self, values: npt.NDArray[np.int32]) -> Table:
        """Stored bytes of values."""
        return (values + self.offset).astype(np.uint8)


def quantised_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Smallest and largest value of a byte type."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def apply(activation: Activation, x: Floats) -> Floats | None:
    """The activation of float32[...]; None for one that differs by channel."""
    kind, low, high = activation.kind, np.float32(activation.alpha), np.float32(activation.beta)
    one = np.float32(1)
    if kind == "identity":
        return x
    if kind == "relu":
        return np.maximum(x, np.float32(0))
    if kind == "clip":
        return np.minimum(np.maximum(x, low), high)
    if kind == "leaky_relu":
        return np.where(x >= 0, x, x * low).astype(np.float32)
    if kind in ("silu", "sigmoid"):
        gate = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
        return gate if kind == "sigmoid" else x * gate
    if kind in ("hard_swish", "hard_sigmoid"):
        slope, shift = (one / np.float32(6), np.float32(0.5)) if kind == "hard_swish" else (low, high)
        gate = np.clip(x * slope + shift, np.float32(0), one)
        return np.asarray(gate if kind == "hard_sigmoid" else x * gate, np.float32)
    return None


def lookup_table(source: Quantisation, activation: Activation, target: Quantisation) -> Table:
    """Stored byte of the result of each stored byte. Raises ValueError for an activation that differs by channel."""
    x = apply(activation, source.dequantise(source.every_value))
    if x is None:
        raise ValueError(f"expected one function for all channels, got {activation}")
    return target.store(target.quantise(x))


def product_table(
    first: Table, second: Table, scales: tuple[float, ...], zero_points: tuple[int, ...], offsets: tuple[int, ...]
) -> Table:
    """The table of x -> first[x] * second[x], as ONNX Runtime's QLinearMul rounds it.

    scales, zero_points, offsets : of the first, the second and the result.
    """
    sx, sy, sz = (np.float32(s) for s in scales)
    x, y = (
        table.astype(np.float32) - np.float32(zero + offset)
        for table, zero, offset in zip((first, second), zero_points, offsets, strict=False)
    )
    low = -offsets[2]
    result = np.rint(x * y * (sx * sy / sz) + np.float32(zero_points[2]))
    return np.asarray(np.clip(result, low, low + 255) + offsets[2], np.uint8)
