"""The memory of one stream, and the work space that threads lend to whichever stream they run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cache.arena import MapInfo, aligned_zeros
from cache.moving import move_pixels, places_of
from cache.sliding import Slider
from cache.steps import Floats, Method, Pixels, Words
from kernels.layout import Test
from kernels.motion import clear_borders
from kernels.program import JOB_WORDS
from kernels.record import (
    ARENA,
    ARENA_SIZE,
    IMAGE,
    MASKS,
    MOVES,
    SCRATCH,
    SCRATCH_SIZE,
    STATE_WORDS,
    WORK,
    WORK_SIZE,
    call,
    clear_masks,
    encode,
)  # fmt: skip

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Needs:
    """Work space that a plan asks for.

    scratch, work : float32 elements of each thread. list_px : entries of the longest list. mask_words, stale_words :
    uint64 words of all packed masks and of the largest one. steps : of the plan.
    """

    scratch: int
    work: int
    list_px: int
    mask_words: int
    stale_words: int
    steps: int
    image: int
    image_reach_tiles: int

    @property
    def nbytes(self) -> int:
        """Memory of one thread's work space."""
        floats = self.scratch + self.work + self.image
        return floats * 4 + (self.list_px + self.mask_words + self.stale_words + self.steps * JOB_WORDS) * 8


class Workspace:
    """Buffers that hold nothing from frame to frame: one set per thread that pushes frames, whatever the streams.

    Of frames that go through the steps together each needs masks in bits of its own (`packed`), and the image until
    the steps that read it have been run.

    scratch, work : float32[workers * size]; the first 48 of each worker's work stay zero. masks, stale : uint64[words].
    pixels : int32[n, 2]. They only ever grow. words : addresses and shapes of masks, stale and pixels, as in the record
    of `kernels.frame.run_frame`.
    """

    def __init__(self) -> None:
        self._sizes = (0, 0, 0)
        self.scratch = self.work = aligned_zeros(0)
        self.masks = self.stale = np.empty(0, np.uint64)
        self.pixels: Pixels = np.empty((0, 2), np.int32)
        self.words: Words = np.zeros(7, np.int64)
        self._images: dict[MapInfo, Floats] = {}
        self._packed: list[npt.NDArray[np.uint64]] = []

    def image(self, layout: MapInfo) -> Floats:
        """A buffer for an image outside the arena: zeros in its border, elsewhere what a frame before left there."""
        found = self._images.get(layout)
        if found is None:
            found = self._images[layout] = aligned_zeros(layout.room)
        return found

    def reserve(self, needs: Needs, workers: int) -> tuple[int, int]:
        """Grow to a plan's needs; returns the float32 elements of each worker's scratch and work."""
        scratch, work, teams = self._sizes
        if needs.scratch > scratch or needs.work > work or workers > teams:
            scratch, work, teams = max(scratch, needs.scratch), max(work, needs.work), max(teams, workers)
            self.scratch, self.work = aligned_zeros(scratch * teams), aligned_zeros(work * teams)
            self._sizes = scratch, work, teams
        if needs.mask_words > self.masks.size:
            self.masks = np.empty(needs.mask_words, np.uint64)
        if needs.stale_words > self.stale.size:
            self.stale = np.empty(needs.stale_words, np.uint64)
        if needs.list_px > len(self.pixels):
            self.pixels = np.empty((needs.list_px, 2), np.int32)
        if (self.masks.size, self.stale.size, len(self.pixels)) != (self.words[1], self.words[3], self.words[5]):
            self.words, _ = encode(self.masks, self.stale, self.pixels)
        return scratch, work

    def packed(self, needs: Needs, frames: int) -> list[npt.NDArray[np.uint64]]:
        """Masks in bits for each of so many frames that go through the steps together."""
        if any(masks.size < needs.mask_words for masks in self._packed[:frames]):
            self._packed = []
        self._packed += [np.empty(needs.mask_words, np.uint64) for _ in range(frames - len(self._packed))]
        return self._packed[:frames]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        lists = self.masks.nbytes + self.stale.nbytes + self.pixels.nbytes + sum(m.nbytes for m in self._packed)
        return self.scratch.nbytes + self.work.nbytes + lists + sum(image.nbytes for image in self._images.values())


_threads = threading.local()


def workspace() -> Workspace:
    """The work space of the calling thread."""
    found: Workspace | None = getattr(_threads, "workspace", None)
    if found is None:
        found = _threads.workspace = Workspace()
    return found


@dataclass(eq=False)
class State:
    """All that one stream remembers of its maps.

    arena : float32[:], every stored feature map. written : per map uint8[H, W], 1 where this frame wrote.
    touched : uint8[maps], whether anything of it was written this frame. mask_table : int64[maps, 3], address and size
    of each of `written`. words : what entries are given. slider : where maps lie that move without being copied.
    """

    maps: Sequence[MapInfo]
    arena: Floats
    written: list[Mask] = field(init=False)
    touched: Mask = field(init=False)
    mask_table: Words = field(init=False)
    words: Words = field(init=False)
    slider: Slider | None = field(init=False, default=None)
    _torn: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.written = [np.zeros((m.height, m.width), np.uint8) for m in self.maps]
        self.touched = np.zeros(len(self.maps), np.uint8)
        self.mask_table = np.array([[m.ctypes.data, *m.shape] for m in self.written], np.int64)
        self._borrowed = self._image = (self.arena[:0], self.arena[:0])
        self.words = np.zeros(STATE_WORDS, np.int64)
        self.words[[ARENA, ARENA_SIZE, MASKS]] = self.arena.ctypes.data, self.arena.size, self.mask_table.ctypes.data

    def enter(self) -> None:
        """A thread begins a frame."""
        self.words[MOVES] = 0

    def borrow(self, space: Workspace, needs: Needs, workers: int = 1) -> None:
        """Work in a thread's space until another is borrowed."""
        scratch, work = space.reserve(needs, workers)
        if self._borrowed[0] is space.scratch and self._borrowed[1] is space.work:
            return
        self._borrowed = space.scratch, space.work  # so that the addresses stay good
        self.words[[SCRATCH, SCRATCH_SIZE, WORK, WORK_SIZE]] = (
            space.scratch.ctypes.data, scratch, space.work.ctypes.data, work,
        )  # fmt: skip

    def look_at(self, image: Floats) -> None:
        """Read the image in this buffer, from now on."""
        if image is self._image[0] and self.arena is self._image[1]:
            return
        self._image = image, self.arena  # the words hold but its place
        self.words[IMAGE] = (image.ctypes.data - self.arena.ctypes.data) // self.arena.itemsize

    def compute(self, method: Method, pixels: Pixels, test: Test, block: int | None = None) -> int:
        """Recompute listed pixels by one method, outside a frame; returns how many were written.

        pixels : int32[n, 2]. The state must have borrowed a work space.
        """
        pixels = np.ascontiguousarray(pixels, np.int32)
        at = method.entry.address, method.words.ctypes.data, self.words.ctypes.data, pixels.ctypes.data, len(pixels)
        return int(call(*at, test.mode, float(test.limit), test.block if block is None else block))

    def clear(self, everything: bool) -> None:
        """Forget what the last frame wrote; `everything` after an error, which may have left marks untold."""
        clear_masks(self.mask_table, self.touched, everything)

    def move(self, moves: Words) -> None:
        """Move what is stored, until the frame ends: int64[maps, 3], as `kernels.program` has them.

        The array must stay as it is until the frame is done.
        """
        self.words[MOVES] = moves.ctypes.data
        self._torn = True
        self._move_pixels(moves)
        self._torn = False

    def _move_pixels(self, moves: Words) -> None:
        """Move every map but the image, which is made anew."""
        if self.slider is not None:
            self.slider.move(self.arena, moves)
            return
        for info, (down, right, _) in zip(self.maps[1:], moves[1:].tolist(), strict=True):
            move_pixels(self.arena, info, down, right)
        clear_borders(self.arena, places_of(self.maps[1:]), moves[1:])

    def mend(self) -> None:
        """After a move that was broken off: forget everything, and make all borders zero again."""
        if self._torn:
            self.arena[:] = 0
            self._torn = False

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.arena.nbytes + sum(m.nbytes for m in self.written) + self.mask_table.nbytes
