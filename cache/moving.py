"""Moving what a stream stores by whole pixels of every map, so that it shows the picture where it is now.

A pixel of a map whose window holds, after the move, what the pixel's old window held keeps its bound: both sides of

    | stored - step(stored inputs) | <= threshold

moved together. Every other pixel, one that came in or whose window is clipped at another place, is recomputed in that
frame, step by step (`kernels.motion.mark_moved`). So a move is never wrong, however badly it was guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.arena import MapInfo
from cache.change import Frame, TileGrid
from cache.geometry import Span
from cache.motion import Limits, Motion, Tiles, find_motion, possible_shifts, slide
from cache.steps import Step, Words
from kernels.program import MOVE_WORDS

if TYPE_CHECKING:
    from cache.plan import Plan
    from cache.state import State

MOST_PATIENCE = 8
"""Frames after which a picture that moves otherwise is looked at again; before that after 1, 2 and 4."""
COPIED_BYTES_NS = 16.0
"""Bytes of maps that are moved in a nanosecond, their borders included, where they are copied."""
STILL = Fraction(0)
"""Pitch of an axis along which a map does not move: of what holds a value for the whole picture."""
Pitch = tuple[Fraction, Fraction]


@dataclass(frozen=True, eq=False)
class Pitches:
    """How the maps of a plan follow the picture.

    pitches : by map, px of the image per px of the map, down and right; 0 along an axis where it stays. wholly : by
    map, whether it must be recomputed whole after a move. step, exact_step : px down and right of which a move must be
    a multiple; in exact mode, where also tiles of methods that have them must come to lie on tiles.
    """

    pitches: tuple[Pitch, ...]
    wholly: tuple[bool, ...]
    step: tuple[int, int]
    exact_step: tuple[int, int]

    def moves(self, down: int, right: int) -> Words:
        """int64[maps, 3] of a move of the image in px, as `kernels.program.run` takes it."""
        rows = [
            [*(int(d / p) if p else 0 for d, p in zip((down, right), pitch, strict=True)), int(wholly)]
            for pitch, wholly in zip(self.pitches, self.wholly, strict=True)
        ]
        return np.array(rows, np.int64).reshape(-1, MOVE_WORDS)


def pitches_of(maps: Sequence[MapInfo], steps: Sequence[Step]) -> Pitches:
    """What the windows of a plan's steps say of how its maps follow the picture, map 0."""
    pitches: list[Pitch] = [(STILL, STILL)] * len(maps)
    wholly, grains = [False] * len(maps), [1] * len(maps)
    pitches[0] = Fraction(1), Fraction(1)
    for step in steps:
        target = step.target
        found = [along(step, maps, pitches, axis) for axis in (0, 1)]
        pitches[target] = found[0] or STILL, found[1] or STILL
        wholly[target] = not step.anywhere or None in found
        grains[target] = step.method.grain
    return Pitches(tuple(pitches), tuple(wholly), common(pitches), common(pitches, grains))


def along(step: Step, maps: Sequence[MapInfo], pitches: Sequence[Pitch], axis: int) -> Fraction | None:
    """The pitch of a step's target along an axis; None where it follows no rule."""
    found = set[Fraction]()
    for read in step.reads:
        source, span = pitches[read.map][axis], (read.rows, read.columns)[axis]
        inputs = (maps[read.map].height, maps[read.map].width)[axis]
        if source and not (sees_everything(span, inputs) and inputs > 1):
            ratio = inputs_per_output(span, inputs)
            if ratio is None:
                return None
            found.add(source * ratio)
    return STILL if not found else found.pop() if len(found) == 1 else None


def sees_everything(span: Span, inputs: int) -> bool:
    """Whether every output sees all inputs."""
    return bool((span.low == 0).all() and (span.high == inputs - 1).all())


def inputs_per_output(span: Span, inputs: int) -> Fraction | None:
    """How many inputs further the window of the next output lies; None where windows follow no rule."""
    if span.stride:
        return Fraction(span.stride)
    outputs = len(span)
    guesses = [Fraction(1), Fraction(inputs, outputs), Fraction(1, max(1, round(outputs / inputs)))]
    for ratio in (*guesses, Fraction(max(1, round(inputs / outputs)))):
        if is_regular(span, inputs, ratio):
            return ratio
    return None


def is_regular(span: Span, inputs: int, ratio: Fraction) -> bool:
    """Whether all windows off the edges lie as far apart as a ratio says."""
    out, source = ratio.denominator, ratio.numerator
    low, high = span.low.astype(np.int64), span.high.astype(np.int64)
    inner = (low > 0) & (high < inputs - 1)
    both = inner[:-out] & inner[out:]
    apart = (low[out:] == low[:-out] + source) & (high[out:] == high[:-out] + source)
    return int(both.sum()) >= out and bool(apart[both].all())


def common(pitches: Sequence[Pitch], grains: Sequence[int] | None = None) -> tuple[int, int]:
    """px down and right of which a move is a whole number of px, or of tiles of so many px, in every map."""
    factors = [1] * len(pitches) if grains is None else grains
    return tuple(  # type: ignore[return-value]
        math.lcm(
            *((pitch[axis] * factor).numerator for pitch, factor in zip(pitches, factors, strict=True) if pitch[axis])
        )
        for axis in (0, 1)
    )


def move_pixels(flat: npt.NDArray[Any], info: MapInfo, down: int, right: int) -> None:
    """Move what a map holds within its place. What comes in holds what lay there.

    flat : 1-D, what the map lies in.
    """
    slide(flat[info.origin : info.origin + info.extent], down * info.row + right * info.pixel)


def clear_incoming(blocks: npt.NDArray[Any], down: int, right: int) -> None:
    """Make zero what came in: the first of so many rows and columns, or the last where they are below 0.

    blocks : [blocks, H, W, lanes] or [H, W, C].
    """
    pixels = blocks if blocks.ndim == 4 else blocks[None]
    pixels[:, slice(0, down) if down > 0 else slice(max(pixels.shape[1] + down, 0), None)] = 0
    pixels[:, :, slice(0, right) if right > 0 else slice(max(pixels.shape[2] + right, 0), None)] = 0


def share_of_copy(nbytes: int, costs: npt.NDArray[np.float64], pixels: Sequence[int]) -> float:
    """What copying maps of so many bytes takes, as a share of a dense frame; costs : of a `cache.program.Program`."""
    dense = float((costs[:, 0] + costs[:, 1] * np.array(pixels, np.float64)).sum())
    return nbytes / COPIED_BYTES_NS / dense if dense else 0.0


def places_of(maps: Sequence[MapInfo]) -> Words:
    """int64[maps, 9], as `kernels.motion.clear_borders` takes them."""
    rows = [[*m.layout, max(m.blocks, 1), m.height, m.width, *m.zeros] for m in maps]
    return np.array(rows, np.int64).reshape(-1, 9)


class Mover:
    """Follows the motion of one stream's picture.

    shifts : int32[n, 2], px down and right that its maps can follow. moves : int64[maps, 3], those of the last motion.
    """

    def __init__(self, pitches: Pitches, grid: TileGrid, exact: bool, cost: float) -> None:
        """cost : of a move, as a share of a dense frame's."""
        self._pitches, self._grid, self._cost_tiles = pitches, grid, cost * len(grid)
        self.shifts = possible_shifts(grid.height, grid.width, pitches.exact_step if exact else pitches.step)
        self.moves = np.zeros((len(pitches.pitches), MOVE_WORDS), np.int64)
        self._missed = 0  # frames of which much changed, one after the other, that were no motion to follow

    @property
    def can_follow(self) -> bool:
        """Whether there is any motion that maps can follow."""
        return len(self.shifts) > 0

    @property
    def is_due(self) -> bool:
        """Whether the next frame of which much changed should be looked at: after misses, not each one is."""
        following = self._missed + 1
        return self.can_follow and not (following & (following - 1) and following % MOST_PATIENCE)

    def pass_over(self) -> None:
        """Much changed in a frame that was not looked at."""
        self._missed += 1

    def look(self, frame: Frame, reference: Frame, tiles: Tiles, limits: Limits) -> Motion | None:
        """The motion that maps can follow and that explains what changed, as in `find_motion`."""
        self._missed += 1
        found = find_motion(frame, reference, tiles, self._grid, limits, self.shifts, self._cost_tiles)
        if found is not None:
            self.moves[:] = self._pitches.moves(found.down, found.right)
            self.rest()
        return found

    def rest(self) -> None:
        """Little changed: look again as soon as much does."""
        self._missed = 0


def mover_of(plan: Plan, state: State, grid: TileGrid, exact: bool) -> Mover:
    """What follows the motion of a stream's picture; nothing where the policy says so, or where the image is stored."""
    copied = 0 if state.slider is not None else plan.arena_bytes
    cost = share_of_copy(copied, plan.program.costs, [len(s.everything) for s in plan.steps])
    mover = Mover(plan.pitches, grid, exact, cost)
    if not plan.policy.motion or not (plan.maps[0].outside or plan.half is None):
        mover.shifts = mover.shifts[:0]
    return mover
