"""Feature maps kept as float16: where they lie in a stream's store, and where a thread stages what a step needs.

Kernels know float32 alone. So a step's inputs are expanded, pixel by pixel as its windows ask for them, into a
*staging* arena of the thread; the step's kernel computes the listed pixels there; its results are rounded, compared
with the stored ones, and written where they pass (`kernels.half`). Staged maps hold nothing from step to step, so that
maps which never meet in one step may lie in one place. Maps of one size share planes of one geometry: what is border in
one is border in all of them, and stays zero.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, MapInfo, aligned_zeros
from cache.change import Frame
from cache.geometry import Span
from cache.moving import clear_incoming, move_pixels
from cache.state import Needs, State, Workspace
from cache.steps import Floats, Method, Step, Words
from kernels.atomic import call_entry
from kernels.constants import STORE
from kernels.emit_half import LARGEST
from kernels.half import STRETCH_WORDS, commit_half, expand_runs, expand_windows
from kernels.jit import jit
from kernels.layout import Test
from kernels.record import (
    ARENA,
    ARENA_SIZE,
    MASKS,
    STATE_WORDS,
    arena_of,
    encode,
    entry,
    halves_at,
    indices_at,
    ints_2d_at,
    map_at,
    mask_of,
    pixels_at,
    words_at,
)

Halves = npt.NDArray[np.uint16]

SEGMENT = 1536
"""Entries of a list that are expanded, computed and committed in one go: they stay in the cache, and are a multiple of
every method's unit."""

SHARED_ROWS, SHARED_COLUMNS, DENSE = 2, 4, 4
"""Rows that two outputs one below the other may share (a 3x3 window's), columns that two side by side may, and the part
of all that a list may be, for what several of its runs read to be expanded for each rather than remembered."""
MANY = 1 << 30

# Words of a stream's state behind `kernels.record.STATE_WORDS`. STORED, STORED_SIZE : the store. INNER : the state that
# kernels are given: the same, but with masks that nobody reads.
STORED, STORED_SIZE, INNER, HALF_STATE_WORDS = range(STATE_WORDS, STATE_WORDS + 4)


@dataclass(frozen=True, eq=False)
class HalfLayout:
    """maps : of a plan, in the staging arena of `elements` float32. stored : the same maps, none of them with a border,
    in a store of `stored_elements` uint16; what is made anew wherever it is read takes no place there.

    is_stored : by map. fresh : (target, map) of reads that find, in a frame that computes everything, the whole map
    still staged by the step that made it.
    """

    maps: tuple[MapInfo, ...]
    elements: int
    stored: tuple[MapInfo, ...]
    stored_elements: int
    is_stored: tuple[bool, ...]
    fresh: frozenset[tuple[int, int]]


def half_layout(maps: Sequence[MapInfo], steps: Iterable[Step]) -> HalfLayout:
    """Places in store and staging arena, from maps placed as float32 and the steps that use them."""
    steps = list(steps)
    used = {0, *(s.target for s in steps), *(r.map for s in steps for r in s.reads)}
    kept = tuple(m.index in used and not m.outside for m in maps)
    stored, at = [], 0
    for info, keep in zip(maps, kept, strict=True):
        row = info.width * info.pixel
        if info.is_interleaved:
            row = -(-row // LANES) * LANES + LANES  # it is expanded in whole vectors
        plane = -(-info.height * row // 32) * 32
        plane += 32 * (plane // 32 % 2 == 0)  # planes an even number of cache lines apart would share cache sets
        stored.append(replace(info, border=(0, 0, 0, 0), origin=at, plane=plane, row=row))
        at += max(info.blocks, 1) * plane if keep else 0
    placed, elements = stage(maps, steps)
    return HalfLayout(placed, elements, tuple(stored), at + LANES, kept, fresh_reads(placed, steps))


def fresh_reads(maps: Sequence[MapInfo], steps: Sequence[Step]) -> frozenset[tuple[int, int]]:
    """Reads of maps that nothing was staged over since they were made; maps : as placed for staging."""
    found: set[tuple[int, int]] = set()
    whole: set[int] = set()
    for step in steps:
        reads = {r.map for r in step.reads}
        found |= {(step.target, index) for index in reads & whole}
        for index in {step.target, *(reads - whole)}:
            whole = {other for other in whole if other == index or not overlap(maps[index], maps[other])}
        whole.add(step.target)
    return frozenset(found)


def overlap(one: MapInfo, other: MapInfo) -> bool:
    """Whether two staged maps share a plane."""
    ends = [m.origin + max(m.blocks, 1) * m.plane for m in (one, other)]
    return one.origin < ends[1] and other.origin < ends[0]


def stage(maps: Sequence[MapInfo], steps: Sequence[Step]) -> tuple[tuple[MapInfo, ...], int]:
    """Places in the staging arena, and its elements."""
    meets: dict[int, set[int]] = {m.index: set() for m in maps}
    for step in steps:
        together = {step.target, *(r.map for r in step.reads)}
        for index in together:
            meets[index] |= together - {index}
    placed = {m.index: m for m in maps if m.outside}
    at = 0
    for size in dict.fromkeys((m.height, m.width) for m in maps if m.blocks):
        group = [m for m in maps if m.blocks and (m.height, m.width) == size]
        planes = choose_planes(group, meets)
        top, left, bottom, right = (max(m.border[i] for m in group) for i in range(4))
        row = (size[1] + max(left, right)) * LANES
        before, after = (down * row + along * LANES for down, along in ((top, left), (bottom, right)))
        plane = (size[0] - 1) * row + size[1] * LANES + max(before, after)
        plane += LANES * (plane // LANES % 2 == 0)
        for m in group:
            place = at + before + planes[m.index] * plane
            placed[m.index] = replace(m, border=(top, left, bottom, right), origin=place, plane=plane, row=row)
        at += before + max(planes[m.index] + m.blocks for m in group) * plane
    for m in maps:
        if m.index not in placed:  # interleaved: each has a place of its own
            row = m.row + LANES
            origin = -(-(at + m.border[0] * row + m.border[1] * m.pixel) // LANES) * LANES
            placed[m.index] = replace(m, origin=origin, row=row)
            at = -(-(origin + (m.height + m.border[2]) * row) // LANES) * LANES
    return tuple(placed[m.index] for m in maps), at + LANES


def choose_planes(group: Sequence[MapInfo], meets: dict[int, set[int]]) -> dict[int, int]:
    """First plane of each map: the lowest one where it overlaps none that it meets; large maps first."""
    planes: dict[int, int] = {}
    blocks = {m.index: m.blocks for m in group}
    for m in sorted(group, key=lambda m: -m.blocks):
        taken = sorted((planes[i], planes[i] + blocks[i]) for i in meets[m.index] if i in planes)
        first = 0
        for begin, end in taken:
            if begin >= first + m.blocks:
                break
            first = max(first, end)
        planes[m.index] = first
    return planes


@jit
def _is_apart(read: Words, count: int, everything: bool) -> bool:
    """Whether the runs of a list of `count` pixels read so little twice that nothing need be remembered."""
    is_sparse = count * DENSE < read[15] * read[16]
    return bool(not everything and (read[18] == 0 or (is_sparse and read[18] <= SHARED_ROWS)))


@entry
def half_step(
    record: int, state: int, pixels: int, count: int, mode: int, limit: float, block: int, worker: int
) -> int:
    """entry and record of the method, target staged and stored, its blocks, target, whether a fresh read follows, reads
    int64[n, 19].

    A read: map stored and staged, blocks, height; addresses of first and last input row, row step, addresses of first
    and last input column; height and width of the target; whether it is fresh; rows that two outputs one below the
    other share.
    """
    r, s = words_at(record, 16), words_at(state, HALF_STATE_WORDS)
    reads, target, everything = ints_2d_at(r, 13), r[11], mode == STORE
    arena, store, written = arena_of(s), halves_at(s[STORED], s[STORED_SIZE]), mask_of(s, target)
    rows, total = 0, 0
    for i in range(reads.shape[0]):
        rows += 0 if _is_apart(reads[i], count, everything) else reads[i, 9]
    known = np.zeros((rows, STRETCH_WORDS), np.int32)
    for start in range(0, count, SEGMENT):
        size, at = min(SEGMENT, count - start), 0
        listed = pixels_at(pixels + start * 8, size)
        for i in range(reads.shape[0]):
            read = reads[i]
            if everything and read[17]:
                continue
            row_low, row_high = indices_at(read[10], read[15]), indices_at(read[11], read[15])
            left, right = indices_at(read[13], read[16]), indices_at(read[14], read[16])
            if _is_apart(read, count, everything):
                expand_runs(
                    store, map_at(read, 0), read[8], arena, map_at(read, 4), row_low, row_high, left, right, listed,
                    block,
                )  # fmt: skip
                continue
            expand_windows(
                store, map_at(read, 0), read[8], arena, map_at(read, 4), row_low, row_high, read[12], left, right,
                listed, block, known[at : at + read[9]],
            )  # fmt: skip
            at += read[9]
        call_entry(r[0], r[1], s[INNER], pixels + start * 8, size, STORE, 0.0, block, worker)
        total += commit_half(
            arena, map_at(r, 2), r[10], store, map_at(r, 6), listed, Test(mode, limit, block),
            everything and r[12] != 0, written,
        )  # fmt: skip
    return total


def shared(rows: Span, columns: Span) -> int:
    """Rows that two outputs one below the other both read, at most; `MANY` where rows have gaps, or where two outputs
    side by side share more columns than it is cheap to expand twice."""
    most = [int((s.high[:-1].astype(np.int64) - s.low[1:] + 1).max(initial=0)) for s in (rows, columns)]
    return most[0] if rows.step == 1 and most[1] <= SHARED_COLUMNS else MANY


def half_method(layout: HalfLayout, step: Step, method: Method) -> Method:
    """A method of a step, on maps kept as float16."""
    target, reads = layout.maps[step.target], []
    seen: set[tuple[int, bytes]] = set()
    for read in step.reads:
        rows, columns = read.rows, read.columns
        key = read.map, b"".join(a.tobytes() for a in (rows.low, rows.high, columns.low, columns.high))
        if key in seen or not layout.is_stored[read.map]:
            continue
        seen.add(key)
        stored, staged = layout.stored[read.map], layout.maps[read.map]
        reads.append([
            *stored.layout, *staged.layout, max(staged.blocks, 1), staged.height, rows.low.ctypes.data,
            rows.high.ctypes.data, rows.step, columns.low.ctypes.data, columns.high.ctypes.data, target.height,
            target.width, int((step.target, read.map) in layout.fresh), shared(rows, columns),
        ])  # fmt: skip
    words, kept = encode(
        method.entry.address, method.words.ctypes.data, target.layout, layout.stored[step.target].layout, target.blocks,
        step.target, int(any(index == step.target for _, index in layout.fresh)),
        np.array(reads, np.int64).reshape(-1, 19),
    )  # fmt: skip
    return replace(method, entry=half_step, words=words, kept=(*kept, method, step), maps=())


class Staging:
    """What a thread lends to streams of one layout.

    arena : float32[:], zero in borders. marks : int64[maps, 3], masks of the right sizes, all in one place, that
    kernels mark and nobody reads; marks_at : its address.
    """

    def __init__(self, layout: HalfLayout) -> None:
        self.arena = aligned_zeros(layout.elements)
        self._mask = np.zeros(max(m.height * m.width for m in layout.maps), np.uint8)
        self.marks = np.array([[self._mask.ctypes.data, m.height, m.width] for m in layout.maps], np.int64)
        self.marks_at = self.marks.ctypes.data

    @staticmethod
    def nbytes(layout: HalfLayout) -> int:
        """Memory that one takes."""
        return layout.elements * 4 + max(m.height * m.width for m in layout.maps) + len(layout.maps) * 24


_threads = threading.local()


def staging(layout: HalfLayout) -> Staging:
    """The staging of the calling thread for a layout; gone when its plan is."""
    kept: WeakKeyDictionary[HalfLayout, Staging] | None = getattr(_threads, "stagings", None)
    if kept is None:
        kept = _threads.stagings = WeakKeyDictionary()
    found = kept.get(layout)
    if found is None:
        found = kept[layout] = Staging(layout)
    return found


class HalfState(State):
    """The memory of one stream whose maps are float16.

    store : uint16[:], the bits of every stored value. arena : the staging arena of the thread that runs the frame.
    """

    def __init__(self, layout: HalfLayout) -> None:
        self.layout = layout
        self.store = aligned_zeros(layout.stored_elements // 2).view(np.uint16)
        self._staging = staging(layout)
        super().__init__(layout.maps, self._staging.arena)
        self._inner = np.zeros(STATE_WORDS, np.int64)
        self.words = np.concatenate([self.words, np.zeros(HALF_STATE_WORDS - STATE_WORDS, np.int64)])
        self.words[[STORED, STORED_SIZE, INNER]] = self.store.ctypes.data, self.store.size, self._inner.ctypes.data

    def enter(self) -> None:
        """Work in the calling thread's staging arena, from now on."""
        super().enter()
        found = staging(self.layout)
        if found is not self._staging:
            self._staging, self.arena = found, found.arena
            self.words[[ARENA, ARENA_SIZE]] = self.arena.ctypes.data, self.arena.size

    def borrow(self, space: Workspace, needs: Needs, workers: int = 1) -> None:
        """Work in a thread's space until another is borrowed."""
        super().borrow(space, needs, workers)
        self._inner[:] = self.words[:STATE_WORDS]
        self._inner[MASKS] = self._staging.marks_at

    def _move_pixels(self, moves: Words) -> None:
        """None of the stored maps has a border. What comes in is made zero."""
        for info, (down, right, _) in zip(self.layout.stored[1:], moves[1:].tolist(), strict=True):
            if self.layout.is_stored[info.index]:
                move_pixels(self.store, info, down, right)
                clear_incoming(info.view(self.store), down, right)  # type: ignore[arg-type]

    def show(self, frame: Frame, table: Floats) -> None:
        """Store the image where this frame wrote it. frame : uint8[H, W, C]. table : float32[256, C]."""
        marked, bits = self.written[0] != 0, to_half(table)
        for c in range(frame.shape[2]):
            self._channel(self.layout.stored[0], c)[marked] = bits[frame[marked, c], c]

    def ingest_tensor(self, x: Floats) -> None:
        """An image float32[C, H, W]: store and mark what differs once it is rounded."""
        image, mask = self.layout.stored[0], self.written[0]
        for c, new in enumerate(to_half(x)):
            old = self._channel(image, c)
            mask |= old != new
            old[...] = new

    def _channel(self, info: MapInfo, c: int) -> Halves:
        """uint16[H, W], a channel of a stored map. Shares memory."""
        found: Halves = info.view(self.store)  # type: ignore[arg-type,assignment]
        return found[..., c] if info.is_interleaved else found[c // LANES, :, :, c % LANES]

    @property
    def nbytes(self) -> int:
        """Memory held; the staging arena is the thread's."""
        return super().nbytes - self.arena.nbytes + self.store.nbytes


def to_half(values: Floats) -> Halves:
    """Bits of the float16 nearest to each value; 65504, of its sign, for what lies beyond."""
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16).view(np.uint16)
