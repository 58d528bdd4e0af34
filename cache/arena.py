"""Where each feature map lies in a stream's arena: sizes in, element offsets out. Immutable, shared by all streams."""

from __future__ import annotations

from collections.abc import Iterable
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
    stride : input pixels per map pixel, vertically. border : zeros around each block that its readers count on.
    plane, row : elements from a block (a row) to the next. outside : it lies in a buffer of its own.
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
    outside: bool = False

    @property
    def room(self) -> int:
        """Elements of a buffer that holds a map outside the arena, borders included."""
        _, _, bottom, right = self.border
        after = (self.height - 1 + bottom) * self.row + (self.width + right) * self.pixel
        return self.origin + (max(self.blocks, 1) - 1) * self.plane + after + LANES

    @property
    def layout(self) -> Map:
        """The tuple kernels take."""
        return Map(self.origin, self.plane, self.row, self.pixel)

    def corner(self, pad_top: int, pad_left: int) -> Map:
        """The map with its origin moved up and left by a padding, for window kernels."""
        origin = self.origin - pad_top * self.row - pad_left * self.pixel
        return Map(origin, self.plane, self.row, self.pixel)

    @property
    def zeros(self) -> tuple[int, int]:
        """Elements of the border before the first pixel of a block, and after the last one."""
        top, left, bottom, right = self.border
        return top * self.row + left * self.pixel, bottom * self.row + right * self.pixel

    @property
    def extent(self) -> int:
        """Elements from the first pixel of the first block to the end of the last pixel of the last one."""
        return (max(self.blocks, 1) - 1) * self.plane + (self.height - 1) * self.row + self.width * self.pixel

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
    border: Border = (0, 0, 0, 0)
    outside: bool = False


@dataclass
class ArenaBuilder:
    """Collects maps and the borders their readers need, then gives each its place.

    Zeros serve every neighbour: those right of a row are those left of the next one, those below a block are those
    above the next block, or the next map. No kernel ever writes them. Maps that are read together, as one, get rows
    of one length (`join`).
    """

    maps: list[_Declared] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    alike: list[tuple[int, int]] = field(default_factory=list)

    def declare(self, name: str, blocks: int, height: int, width: int, stride: float, pixel: int = LANES) -> int:
        """Add a map; returns its index. `blocks` = 0 makes it interleaved with `pixel` channels."""
        self.maps.append(_Declared(name, blocks, height, width, pixel, stride))
        self.joined.append(len(self.joined))
        return len(self.maps) - 1

    def put_outside(self, index: int) -> None:
        """Give a map no place in the arena: it lies in a buffer of its own."""
        self.maps[index].outside = True

    def _group(self, index: int) -> int:
        """The map that stands for all that are read together with this one."""
        while self.joined[index] != index:
            index = self.joined[index]
        return index

    def join(self, indices: Iterable[int]) -> None:
        """Say that one step may read these maps, of one size, as if they were one."""
        groups = {self._group(index) for index in indices}
        for group in groups:
            self.joined[group] = min(groups)

    def make_alike(self, first: int, second: int) -> None:
        """Give two maps of one size the same strides: what lies where in one is as far from it in the other."""
        self.join((first, second))
        self.alike.append((first, second))

    def _share_borders(self) -> None:
        """Give all maps that are to be alike the border that any of them needs."""
        changed = True
        while changed:
            changed = False
            for pair in self.alike:
                before = [self.maps[i].border for i in pair]
                for index, border in zip(pair, reversed(before), strict=True):
                    self.require_border(index, border)
                changed |= before[0] != before[1]

    def require_border(self, index: int, border: Border) -> None:
        """Ask for at least this border around a map."""
        old = self.maps[index].border
        self.maps[index].border = (
            max(old[0], border[0]), max(old[1], border[1]), max(old[2], border[2]), max(old[3], border[3]),
        )  # fmt: skip

    def finish(self) -> tuple[tuple[MapInfo, ...], int]:
        """Places of all maps, and the arena's size in float32 elements."""
        self._share_borders()
        gaps: dict[int, int] = {}
        for index, m in enumerate(self.maps):
            group = self._group(index)
            gaps[group] = max(gaps.get(group, 0), m.border[1], m.border[3])
        placed = []
        at = zeros = 0  # the end of what lies there, and how many zeros it wants behind it
        for index, m in enumerate(self.maps):
            row = (m.width + gaps[self._group(index)]) * m.pixel
            before, after = (m.border[i] * row + m.border[i + 1] * m.pixel for i in (0, 2))
            body = (m.height - 1) * row + m.width * m.pixel
            plane = body + max(before, after)
            if m.blocks and plane // LANES % 2 == 0:
                plane += LANES  # blocks an even number of cache lines apart would fall into the same few cache sets
            origin = -(-(before if m.outside else at + max(zeros, before)) // LANES) * LANES
            placed.append(
                MapInfo(
                    index, m.name, m.blocks, m.height, m.width, m.pixel, m.stride, m.border, origin, plane, row,
                    m.outside,
                )
            )  # fmt: skip
            if m.outside:
                continue
            at, zeros = origin + (max(m.blocks, 1) - 1) * plane + body, after
        return tuple(placed), -(-(at + zeros) // LANES) * LANES + LANES


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
