"""Convolutions with large filters by Fourier transforms: when they are taken, on which tiles, and their arguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from cache.arena import LANES, aligned_copy
from cache.builder import Builder, Maps, block_offsets
from cache.graph import Graph, Node
from cache.packing import block_groups
from cache.steps import Cost, Effort, Floats, Method, Step, method
from cache.values import Blocks
from kernels.fft_grid import Grid, buffer_elements, dense_elements
from kernels.layout import LONG_CHUNK, Act, Map

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.complex128]
Size = tuple[int, int]

LIBRARY = "rocket_fft"
"""What transforms within compiled kernels; an extra (`fft`)."""
SMALLEST = 7
"""Taps along either axis below which the method is not looked at."""
TILES = (8, 16, 32, 64, 128)
"""Pixels squared of a tile."""
TOGETHER = 8
"""Tiles that share one pass over the weights, at most."""
MOST_BYTES = 64 << 20
"""Memory of one layer's spectra."""
MOST_BYTES_OF_ALL = 512 << 20
"""And of all layers'; those for which there is none left are computed directly."""
MOST_WORK_BYTES = 8 << 20
"""Work space of a thread, above which fewer tiles share one pass; twice that is the end."""
ENTRIES = {"fft_convolution", "fft_depthwise_convolution"}
"""Names of the entries, which are not imported before a plan takes one."""
AXES = np.arange(2, dtype=np.int64)

TRANSFORM_NS = 0.25
"""Nanoseconds of a transform for each value and doubling of their number. Guesses, as all below: on the machine
`cache.tuning` measures."""
MOVED_NS, READ_NS, PRODUCT_NS = 1.0, 0.1, 0.03
"""Nanoseconds to move 16 channels of a pixel, to read a byte of weights, of a multiplication."""
DENSE_NS, DEPTHWISE_NS = 0.026, 0.04
"""Nanoseconds of a multiplication done directly: of all channels with all, of each channel by itself."""
OFFERED = 2.0
"""Times the direct method's guessed time up to which this one is measured."""
SURE = 1.25
"""Times this method's guessed time that the direct one's must be, for a depthwise convolution not to be fused with a
1x1 one that follows: guesses favour this method by up to a quarter (docs/techniques/fft.md), and a fusion is given up.
"""


@lru_cache(maxsize=1)
def is_there() -> bool:
    """Whether the library of transforms is installed and can be used."""
    if find_spec(LIBRARY) is None:
        return False
    try:
        import_module(LIBRARY)
    except Exception as error:  # another numba, a CPU that it was not built for
        warnings.warn(f"{LIBRARY} cannot be used, convolutions are computed directly: {error}", RuntimeWarning, 2)
        return False
    return True


def may_suit(builder: Builder, node: Node, weight: Floats) -> bool:
    """Whether a convolution may be computed by the method in this plan."""
    return builder.fft_kept > 0 and not builder.strict and can_compute(node, weight) and is_there()


def can_compute(node: Node, weight: Floats) -> bool:
    """Whether the method is for a convolution: large filters, windows side by side and without gaps, each channel by
    itself or all with all."""
    groups = node.attrs["groups"]
    together = groups == 1 or (groups == weight.shape[0] and weight.shape[1] == 1)
    plain = node.attrs["strides"] == (1, 1) and node.attrs["dilations"] == (1, 1)
    return bool(together and plain and min(weight.shape[2:]) >= SMALLEST)


def surely_gains(graph: Graph, node: Node, kept: float) -> bool:
    """Whether a convolution of each channel by itself takes clearly less time by the method, by a guess.

    kept : share of the frequencies; 0 where the method is not wanted.
    """
    weight, known = graph.constants[node.inputs[1]], graph.type_of(node.output)
    if kept <= 0 or known is None or not can_compute(node, weight) or not is_there():
        return False
    taps, size = (weight.shape[2], weight.shape[3]), (known.shape[2], known.shape[3])
    made = tiling(size, taps, node.attrs["pads"], 0, -(-known.shape[1] // LANES), kept)
    return made is not None and SURE * made.whole_ns <= direct_ns(made)


@dataclass(frozen=True, eq=False)
class Tiling:
    """A convolution's tiles. inputs, outputs : blocks of channels; no inputs where each channel is by itself.

    kept : share of the frequencies that are not taken for zero.
    """

    grid: Grid
    inputs: int
    outputs: int
    kept: float

    @property
    def points(self) -> int:
        """Frequencies that are kept."""
        return max(1, math.ceil(self.kept * self.grid.points))

    @property
    def weight_bytes(self) -> int:
        """Memory of the filters' spectra."""
        return self.points * max(self.inputs * LANES, 1) * self.outputs * 2 * LANES * 4

    @property
    def work_elements(self) -> int:
        """float32 elements of work space that each thread needs."""
        if not self.inputs:
            return buffer_elements(self.grid, self.outputs)
        return dense_elements(self.grid, self.points, self.inputs, self.outputs)

    @property
    def tiles(self) -> int:
        """Tiles of the whole map."""
        return -(-self.grid.height // self.grid.tile) * -(-self.grid.width // self.grid.tile)

    @property
    def cost(self) -> Cost:
        """A guess: per call, and per listed pixel."""
        grid, both = self.grid, (self.inputs or self.outputs) + self.outputs
        values = grid.rows * grid.columns
        tile_ns = both * LANES * TRANSFORM_NS * values * math.log2(values)
        tile_ns += both * MOVED_NS * (values + grid.tile * grid.tile)
        products = 4 * self.points * self.inputs * self.outputs * LANES * LANES
        tile_ns += products * PRODUCT_NS
        call_ns = self.weight_bytes * READ_NS
        passes = -(-self.tiles // grid.together) if self.inputs else self.tiles
        tile_ns += call_ns * (passes - 1) / self.tiles
        return Cost(call_ns, tile_ns / (grid.tile * grid.tile))

    @property
    def effort(self) -> Effort:
        """Of the whole map: half the floating point operations of its transforms, 2.5 n log2 n for n real values, and
        four multiplications for each product of complex numbers.

        arrays : patches, spectra and results of tiles, and the filters' spectra for each pass but the first.
        """
        grid, both = self.grid, (self.inputs or self.outputs) + self.outputs
        values = grid.rows * grid.columns
        macs = both * LANES * 1.25 * values * math.log2(values)
        macs += 4 * self.points * max(self.inputs * LANES, 1) * self.outputs * LANES
        vector, times = LANES * 4, 2 * self.tiles
        arrays = [(values * vector, both * times), (grid.points * 2 * vector, both * times)]
        arrays.append((self.outputs * grid.tile * grid.tile * vector, times))
        passes = self.tiles
        if self.inputs:
            passes = -(-self.tiles // grid.together)
            row = self.points * 2 * grid.together * vector
            arrays += [(row * self.inputs, 2 * passes), (row * 2 * self.outputs, 2 * passes)]
        arrays.append((self.weight_bytes, passes - 1))
        return Effort(self.tiles * macs, tuple(arrays))

    @property
    def whole_ns(self) -> float:
        """A guess of what the whole map takes."""
        return self.cost.of(self.tiles * self.grid.tile * self.grid.tile)


def good_size(least: int) -> int:
    """The smallest even number of at least so many values that is a product of twos, threes and fives."""
    size = least + least % 2
    while not _is_smooth(size):
        size += 2
    return size


def _is_smooth(size: int) -> bool:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size == 1


def tiling(
    size: Size, taps: Size, pads: tuple[int, ...], inputs: int, outputs: int, kept: float = 1.0,
    most_bytes: int = MOST_BYTES,
) -> Tiling | None:  # fmt: skip
    """The tiles that a map of so many pixels takes least time on; None where the direct method surely takes less.

    size, taps : rows and columns. pads : zeros above, left, below and right. inputs, outputs : blocks; 0 inputs for a
    convolution of each channel by itself. most_bytes : what its spectra may take.
    """
    found = [
        made
        for tile in TILES
        if tile == TILES[0] or tile < 2 * max(size)
        for made in [_tiling_of(tile, size, taps, pads, inputs, outputs, kept)]
        if made.weight_bytes <= min(most_bytes, MOST_BYTES)
        and inputs <= LONG_CHUNK
        and made.work_elements * 4 <= 2 * MOST_WORK_BYTES
    ]
    best = min(found, key=lambda made: made.whole_ns, default=None)
    return best if best is not None and best.whole_ns <= OFFERED * direct_ns(best) else None


def take_tiling(
    builder: Builder, node: Node, weight: Floats, size: Size, inputs: int, outputs: int
) -> Tiling | None:  # fmt: skip
    """`tiling` of a convolution, whose spectra count from now on; None also where the method cannot compute it."""
    if not may_suit(builder, node, weight):
        return None
    taps, room = (weight.shape[2], weight.shape[3]), max(0, MOST_BYTES_OF_ALL - builder.spectra_bytes)
    made = tiling(size, taps, node.attrs["pads"], inputs, outputs, builder.fft_kept, room)
    if made is not None:
        builder.spectra_bytes += made.weight_bytes
    return made


def _tiling_of(
    tile: int, size: Size, taps: Size, pads: tuple[int, ...], inputs: int, outputs: int, kept: float
) -> Tiling:
    lengths = [good_size(_least(tile, *axis)) for axis in zip(size, taps, pads[:2], pads[2:], strict=True)]
    tiles = -(-size[0] // tile) * -(-size[1] // tile)
    together = min(TOGETHER, tiles) if inputs else 1
    while True:
        grid = Grid(tile, size[0], size[1], taps[0], taps[1], lengths[0], lengths[1], together)
        made = Tiling(grid, inputs, outputs, kept)
        if together == 1 or made.work_elements * 4 <= MOST_WORK_BYTES:
            return made
        together //= 2


def _least(tile: int, pixels: int, taps: int, before: int, behind: int) -> int:
    """Values that a transform along an axis must have.

    Where one tile is all there is, zeros at its end may fall onto zeros at its beginning.
    """
    if tile < pixels:
        return tile + taps - 1
    return max(pixels + taps - 1 - min(before, behind), pixels, taps)


def direct_ns(made: Tiling) -> float:
    """A guess of what the whole map takes directly."""
    grid, taps = made.grid, made.grid.taps_y * made.grid.taps_x
    each = DENSE_NS if made.inputs else DEPTHWISE_NS
    return taps * max(made.inputs * LANES, 1) * made.outputs * LANES * grid.height * grid.width * each


def spectra_of(weight: Floats, grid: Grid) -> Numbers:
    """complex128[..., points]: conjugate spectra of filters [..., taps_y, taps_x], over the number of values.

    Computed in double precision, to be rounded once.
    """
    found = np.fft.rfft2(weight.astype(np.float64), (grid.rows, grid.columns)).conj() / (grid.rows * grid.columns)
    return found.reshape(*weight.shape[:-2], grid.points)


def largest(energy: npt.NDArray[np.float64], count: int) -> Ints:
    """int64[count], ascending: the points of float64[points] at which filters hold most."""
    if count == energy.size:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.argsort(-energy, kind="stable")[:count]).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Filters:
    """Spectra as the kernels read them, made once: where maps lie does not matter to them.

    points : int64[n], or int64[blocks, n] where each channel is by itself; spans : int64[groups, 3], or none.
    """

    tiling: Tiling
    points: Ints
    weights: Floats
    spans: Ints | None = None


def depthwise_filters(weight: Floats, blocks: Blocks, made: Tiling) -> Filters:
    """Spectra of filters float32[channels, 1, taps_y, taps_x]."""
    lanes = np.zeros((len(blocks) * LANES, made.grid.points), np.complex128)
    lanes[blocks.position] = spectra_of(weight[:, 0], made.grid)
    parts = lanes.reshape(len(blocks), LANES, -1)
    energy = (np.abs(parts) ** 2).sum(axis=1)
    points = np.stack([largest(each, made.points) for each in energy])
    chosen = np.take_along_axis(parts, points[:, None], axis=2)
    packed = np.stack([chosen.real, chosen.imag], 2).transpose(0, 3, 2, 1)  # block, point, part, lane
    return Filters(made, np.ascontiguousarray(points), aligned_copy(packed.astype(np.float32)))


def dense_filters(weight: Floats, blocks: Blocks, made: Tiling) -> Filters:
    """Spectra of filters float32[outputs, inputs, taps_y, taps_x]."""
    grid, outputs = made.grid, weight.shape[0]
    points = np.arange(grid.points, dtype=np.int64)
    if made.points < grid.points:
        energy = sum((np.abs(part) ** 2).sum(axis=(0, 1)) for _, part in _by_outputs(weight, grid))
        points = largest(np.asarray(energy), made.points)
    matrix = np.zeros((points.size, made.inputs * LANES, 2, made.outputs * LANES), np.float32)
    for first, part in _by_outputs(weight, grid):
        rows = part[:, :, points].transpose(2, 1, 0)  # point, input, output
        columns = slice(first, min(first + LANES, outputs))
        for which, values in enumerate((rows.real, rows.imag)):
            matrix[:, blocks.position, which, columns] = values
    all_parts = matrix.reshape(points.size, made.inputs * LANES, -1)
    spans, parts, at = [], [], 0
    for vector, count in block_groups(2 * made.outputs):
        group = all_parts[:, :, vector * LANES : (vector + count) * LANES].reshape(points.size, -1)
        spans.append((vector, count, at))
        parts.append(group)
        at += group.shape[1]
    packed = aligned_copy(np.concatenate(parts, axis=1))
    return Filters(made, points, packed, np.array(spans, np.int64))


def _by_outputs(weight: Floats, grid: Grid) -> Iterator[tuple[int, Numbers]]:
    """First output of 16 and their spectra, so that not all are held in double precision at once."""
    for first in range(0, weight.shape[0], LANES):
        yield first, spectra_of(weight[first : first + LANES], grid)


def fft_method(
    maps: Maps, blocks: Blocks, filters: Filters, pads: tuple[int, int], bias: Floats, slope: Floats, place: Map,
    act: Act, target: int,
) -> Method:  # fmt: skip
    """The convolution of a view's blocks into the map `target`, laid out as `place`."""
    from cache.fft_entries import fft_convolution, fft_depthwise_convolution  # the library is needed from here on

    info, planes = block_offsets(maps, blocks)
    made, grid = filters.tiling, filters.tiling.grid
    first = info.corner(*pads), planes, AXES, grid, filters.points
    last = filters.weights, bias, slope, place, act, target
    if filters.spans is None:
        ready = method(fft_depthwise_convolution, *first, *last)
    else:
        ready = method(fft_convolution, *first, filters.spans, *last)
    unit = max(1, grid.together // 2) * grid.tile * grid.tile
    return replace(
        ready, grain=grid.tile, unit=unit, work_elements=made.work_elements, cost=made.cost, effort=made.effort
    )


def is_by_fft(way: Method) -> bool:
    """Whether a method is this one."""
    return way.entry.name in ENTRIES


def lacking(graph: Graph) -> int:
    """Convolutions of a graph that might be computed so, were the library there; 0 where it is."""
    if is_there():
        return 0
    found = ((node, graph.constants.get(node.inputs[1])) for node in graph.nodes if node.op == "conv")
    return sum(weight is not None and can_compute(node, weight) for node, weight in found)


def with_fft(step: Step, fast: Method, filters: Filters) -> Step:
    """A step that has a direct method, with this one beside it: the one that may be faster on a whole map first.

    An approximation stands alone where it is taken, as results must not depend on the length of a list; where it is
    slower, it is not.
    """
    is_faster = filters.tiling.whole_ns <= direct_ns(filters.tiling)
    if filters.tiling.kept < 1:
        # What is left out differs from place to place within a tile: nothing of it can move.
        return replace(step, method=fast, anywhere=False) if is_faster else step
    return replace(step, method=fast, few=step.method) if is_faster else replace(step, few=fast)
