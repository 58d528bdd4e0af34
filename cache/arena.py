"""Where each feature map lies in a stream's arena: sizes in, element offsets out. Immutable, shared by all streams."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kernels.layout import Map

LANES = 16
Border = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class MapInfo:
    """One feature map in the arena, offsets in float32 elements.

    blocks : 16-channel blocks; 0 for an interleaved map. pixel : elements from a pixel to the next (16, or the
    channel count of an interleaved map). origin : element of block 0 at (0, 0), inside the border.
    stride : input pixels per map pixel, vertically.
    """

    index: int
    name: str
    blocks: int
    height: int
    width: int
    pixel: int
    stride: float
    border: Border
    origin: int
    plane: int
    row: int

    @property
    def layout(self) -> Map:
        """The tuple kernels take."""
        return Map(self.origin, self.plane, self.row, self.pixel)

    def corner(self, pad_top: int, pad_left: int) -> Map:
        """The map with its origin moved up and left by a padding, for window kernels."""
        origin = self.origin - pad_top * self.row - pad_left * self.pixel
        return Map(origin, self.plane, self.row, self.pixel)

    @property
    def is_interleaved(self) -> bool:
        """Whether channels of a pixel lie side by side, without blocks."""
        return self.blocks == 0

    def view(self, arena: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The map without its border: float32[blocks, H, W, 16], or [H, W, C] when interleaved. Shares memory."""
        item = arena.itemsize
        if self.is_interleaved:
            shape: tuple[int, ...] = (self.height, self.width, self.pixel)
            strides: tuple[int, ...] = (self.row * item, self.pixel * item, item)
        else:
            shape = (self.blocks, self.height, self.width, LANES)
            strides = (self.plane * item, self.row * item, self.pixel * item, item)
        return np.lib.stride_tricks.as_strided(arena[self.origin :], shape, strides)


@dataclass
class _Declared:
    name: str
    blocks: int
    height: int
    width: int
    pixel: int
    stride: float


@dataclass
class ArenaBuilder:
    """Collects maps and the borders their readers need, then gives each its place.

    Blocked maps of one size share one border, so that a tap table can walk several of them as one.
    """

    maps: list[_Declared] = field(default_factory=list)
    borders: dict[tuple[int, int, int], Border] = field(default_factory=dict)

    def declare(self, name: str, blocks: int, height: int, width: int, stride: float, pixel: int = LANES) -> int:
        """Add a map; returns its index. `blocks` = 0 makes it interleaved with `pixel` channels."""
        self.maps.append(_Declared(name, blocks, height, width, pixel, stride))
        return len(self.maps) - 1

    def _key(self, index: int) -> tuple[int, int, int]:
        m = self.maps[index]
        return m.height, m.width, m.pixel if m.blocks == 0 else 0

    def require_border(self, index: int, border: Border) -> None:
        """Ask for at least this border around a map."""
        key = self._key(index)
        old = self.borders.get(key, (0, 0, 0, 0))
        self.borders[key] = (
            max(old[0], border[0]), max(old[1], border[1]), max(old[2], border[2]), max(old[3], border[3]),
        )  # fmt: skip

    def finish(self) -> tuple[tuple[MapInfo, ...], int]:
        """Places of all maps, and the arena's size in float32 elements."""
        placed = []
        at = 0
        for index, m in enumerate(self.maps):
            top, left, bottom, right = border = self.borders.get(self._key(index), (0, 0, 0, 0))
            row = (m.width + left + right) * m.pixel
            plane = (m.height + top + bottom) * row
            origin = at + top * row + left * m.pixel
            placed.append(
                MapInfo(index, m.name, m.blocks, m.height, m.width, m.pixel, m.stride, border, origin, plane, row)
            )
            at += math.ceil(plane * max(m.blocks, 1) / LANES) * LANES
        return tuple(placed), at + LANES


def aligned_zeros(elements: int) -> npt.NDArray[np.float32]:
    """float32 zeros whose first element lies on a 64-byte boundary (the operating system clears it lazily)."""
    buffer = np.zeros(elements + LANES, np.float32)
    start = -(buffer.ctypes.data // 4) % LANES
    return buffer[start : start + elements]


def aligned_copy(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A flat, read-only, 64-byte aligned copy."""
    flat = aligned_zeros(values.size)
    flat[:] = values.reshape(-1)
    flat.flags.writeable = False
    return flat
