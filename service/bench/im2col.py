"""Convolution as one matrix product: the baseline that benchmarks compare with. No part of the engine.

The windows of all output pixels are copied into a matrix, a column for each pixel, and BLAS multiplies it with the
weights (Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006).
All memory is taken once and used again; where the matrix would be the input itself (1x1, stride 1), none is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.graph import Node

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """How a convolution looks at its input: (vertical, horizontal) each; pads are top, left, bottom, right."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, node: Node) -> Window:
        """The window of a node of the graph."""
        attrs = node.attrs
        return cls(
            _pair(attrs["strides"]), _four(attrs["pads"]), _pair(attrs["dilations"]), int(attrs["groups"])
        )  # fmt: skip


def _pair(values: Any) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _four(values: Any) -> tuple[int, int, int, int]:
    return int(values[0]), int(values[1]), int(values[2]), int(values[3])


class Im2col:
    """One convolution of one input size. Not thread-safe: its matrix belongs to one call at a time.

    input_shape, output_shape : (C, H, W). matrix_bytes : of the matrix of columns, 0 where the input is it.
    padded_bytes : of a copy of the input with zeros around it, 0 without pads.
    """

    def __init__(
        self, weight: Floats, bias: Floats | None, window: Window, input_shape: tuple[int, int, int],
        space: Space | None = None,
    ) -> None:  # fmt: skip
        """weight : float32[Cout, Cin / groups, kh, kw]. space : shared with other convolutions; None for its own.

        Raises ValueError where shapes do not fit together, or no output pixel is left.
        """
        outputs, per_group, rows, columns = weight.shape
        channels, height, width = input_shape
        groups = window.groups
        if channels != per_group * groups or outputs % groups:
            raise ValueError(f"expected {per_group * groups} channels in {groups} groups, got {channels} and {outputs}")
        top, left, bottom, right = window.pads
        reach = [(n - 1) * d + 1 for n, d in zip((rows, columns), window.dilations, strict=True)]
        sizes = [height + top + bottom - reach[0], width + left + right - reach[1]]
        if min(sizes) < 0:
            raise ValueError(f"expected an input of at least {reach[0]}x{reach[1]} with its pads, got {height}x{width}")
        self.input_shape = input_shape
        self.output_shape = (outputs, *(size // s + 1 for size, s in zip(sizes, window.strides, strict=True)))
        self._window, self._kernel = window, (rows, columns)
        self._weight = np.ascontiguousarray(weight.reshape(groups, outputs // groups, -1))
        self._bias = None if bias is None or not bias.any() else np.ascontiguousarray(bias.reshape(-1, 1))
        self._space = space or Space()
        pixels = self.output_shape[1] * self.output_shape[2]
        self.is_direct = (rows, columns) == (1, 1) and window.strides == (1, 1) and not any(window.pads)
        self._padded_shape = (channels, height + top + bottom, width + left + right)
        self._matrix_shape = (groups, per_group * rows * columns, pixels)
        self.padded_bytes = 4 * int(np.prod(self._padded_shape)) if any(window.pads) else 0
        self.matrix_bytes = 0 if self.is_direct else 4 * int(np.prod(self._matrix_shape))
        self._space.reserve(self.padded_bytes // 4, self.matrix_bytes // 4)

    @property
    def extra_bytes(self) -> int:
        """Memory beside input, weights and output."""
        return self.matrix_bytes + self.padded_bytes

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights."""
        return self._weight.nbytes

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a call."""
        return int(self._weight.size // self._weight.shape[0]) * int(np.prod(self._matrix_shape[::2]))

    def columns(self, x: Floats) -> Floats:
        """float32[groups, Cin / groups * kh * kw, pixels], valid until the next call; of x float32[C, H, W]."""
        groups, depth, pixels = self._matrix_shape
        if self.is_direct:
            return x.reshape(groups, depth, pixels)
        source = self._padded(x)
        plane, row, item = source.strides
        (down, across), (apart, aside) = self._window.strides, self._window.dilations
        channels, height, width = self.input_shape[0], *self.output_shape[1:]
        windows = np.lib.stride_tricks.as_strided(
            source, (channels, *self._kernel, height, width),
            (plane, row * apart, item * aside, row * down, item * across), writeable=False,
        )  # fmt: skip
        matrix = self._space.matrix[: groups * depth * pixels]
        np.copyto(matrix.reshape(windows.shape), windows)
        return matrix.reshape(groups, depth, pixels)

    def run(self, x: Floats, out: Floats) -> Floats:
        """x : float32[C, H, W]. out : float32[Cout, oh, ow], both C-contiguous; written to, and returned."""
        matrix, outputs = self.columns(x), self.output_shape[0]
        flat = out.reshape(outputs, -1)
        if len(self._weight) == 1:
            np.matmul(self._weight[0], matrix[0], out=flat)
        else:
            np.matmul(self._weight, matrix, out=flat.reshape(len(self._weight), -1, flat.shape[1]))
        if self._bias is not None:
            flat += self._bias
        return out

    def _padded(self, x: Floats) -> Floats:
        """The input with zeros around it."""
        if not self.padded_bytes:
            return x
        top, left, bottom, right = self._window.pads
        _, height, width = self._padded_shape
        padded = self._space.padded[: self.padded_bytes // 4].reshape(self._padded_shape)
        padded[:, :top], padded[:, height - bottom :] = 0, 0
        padded[:, :, :left], padded[:, :, width - right :] = 0, 0
        padded[:, top : height - bottom, left : width - right] = x
        return padded


class Space:
    """Work space that convolutions use one after the other: as much as the largest of them needs."""

    def __init__(self) -> None:
        self._padded_size = self._matrix_size = 0
        self._taken: tuple[Floats, Floats] | None = None

    def reserve(self, padded: int, matrix: int) -> None:
        """There will be a convolution that needs so many elements."""
        if padded > self._padded_size or matrix > self._matrix_size:
            self._padded_size, self._matrix_size = max(padded, self._padded_size), max(matrix, self._matrix_size)
            self._taken = None

    @property
    def nbytes(self) -> int:
        """Memory of both buffers."""
        return 4 * (self._padded_size + self._matrix_size)

    @property
    def padded(self) -> Floats:
        """For the input with zeros around it."""
        return self._buffers()[0]

    @property
    def matrix(self) -> Floats:
        """For the columns."""
        return self._buffers()[1]

    def _buffers(self) -> tuple[Floats, Floats]:
        if self._taken is None:
            self._taken = np.zeros(self._padded_size, np.float32), np.zeros(self._matrix_size, np.float32)
        return self._taken
