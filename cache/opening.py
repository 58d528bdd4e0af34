"""How a frame is taken in: compared with the pixels that the maps were made from, decided upon, turned into numbers.

Holds all that one stream remembers of pixels: the reference frame, its noise, its exposure, what changes have cost.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import numpy.typing as npt

from cache.arena import LANES
from cache.change import Frame, TileGrid
from cache.exposure import Exposure
from cache.forecast import Forecast
from cache.half import HalfState
from cache.motion import Motion, mark_strips
from cache.moving import mover_of
from cache.noise import NoiseModel
from cache.plan import Plan
from cache.state import State, Workspace, workspace
from cache.steps import Floats
from kernels.frame import (
    ASK,
    CHANGED,
    DECISION,
    EVERYTHING,
    FRAME,
    HINTED,
    IMAGE,
    KNOWN,
    MOST,
    OPEN_WORDS,
    PART,
    PARTS,
    SEEN,
    SEEN_END,
    SUSPECT,
    VALID,
    open_frame,
)
from kernels.ingest import show_tiles
from kernels.program import share_of_turn
from kernels.record import encode

Tiles = npt.NDArray[np.bool_]
Decision = Literal["keyframe", "partial", "reuse"]
DECISIONS: tuple[Decision, ...] = ("reuse", "partial", "keyframe")
"""As `kernels.frame` numbers them."""
SUSPICIOUS = 0.3
"""Share of changed tiles from which a picture may have moved."""
EXPOSED = 0.5
"""Share of changed tiles from which a frame may be of another exposure than those before."""
HELPED = 0.5
"""Share of those tiles that may still differ where it was."""


def reason_of(decision: Decision, whole: bool, changed: int, tiles: int, limit: int) -> str:
    """Why a frame was reused, recomputed in part, or recomputed whole.

    whole : it had to be, whatever it shows. changed : of so many tiles. limit : changed tiles above which every frame
    is recomputed whole.
    """
    if whole:
        return "no stored frame"
    if changed == 0:
        return "nothing changed" if decision == "reuse" else "refresh"
    said = f"{changed} of {tiles} tiles changed"
    return f"{said}: cheaper whole" if decision == "keyframe" and changed <= limit else said


class Opening:
    """The pixels of one stream. reference : uint8[H, W, C]. tiles : uint8[rows, columns], those taken in last."""

    def __init__(self, plan: Plan, state: State, exact: bool) -> None:
        policy = plan.policy
        self._plan, self._state = plan, state
        self.grid = TileGrid(plan.height, plan.width, policy.tile)
        self.reference = np.zeros((plan.height, plan.width, plan.channels), np.uint8)
        self.tiles = np.zeros(self.grid.shape, np.uint8)
        difference, noise, exposure = (
            (0.0, 0.0, 0.0) if exact else (policy.tile_difference, policy.tile_noise, policy.exposure)
        )
        self._noise = NoiseModel(self.grid, plan.channels, difference, noise)
        self._exposure = Exposure(exposure, self.reference.shape)
        self._forecast = Forecast(len(self.grid), plan.whole_from, policy.keyframe_fraction)
        self._settled = False
        self._within = np.zeros(self.grid.shape, np.uint8)
        self._as_it_was = False  # whether the last frame was compared as it was, at its own exposure and in its place
        turn = plan.program.turn
        self._read_in_turn = [
            (turn[i], turn[i + 1])
            for i, planned in enumerate(plan.steps) if any(read.map == 0 for read in planned.step.reads)
        ]  # fmt: skip
        self._mover = mover_of(plan, state, self.grid, exact)
        self._motion: Motion | None = None
        self._image: tuple[Workspace, Floats] | None = None
        self.shows = plan.maps[0].outside or not isinstance(state, HalfState)
        image = plan.maps[0]
        self._words, self._kept = encode(
            self.reference, self.reference, self.tiles, np.empty_like(self.tiles), self.grid.tile, self._noise.limits,
            self._noise.sums, self._noise.counts, 0, 0, len(self.grid), len(self.grid), 0, 0, state.words,
            state.touched, state.mask_table, plan.table, *plan.line, state.arena, image.layout, self._lanes,
            plan.needs.image_reach_tiles if image.outside else 0, int(self.shows), plan.program.turn, 0, 0,
            self._within, 0, 0, 0, 0,
        )  # fmt: skip
        assert self._words.size == OPEN_WORDS

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.reference.nbytes + 2 * self.tiles.nbytes + self._noise.nbytes + self._exposure.nbytes

    @property
    def decision(self) -> Decision:
        """What was decided of the last frame."""
        return DECISIONS[int(self._words[DECISION])]

    @property
    def changed(self) -> int:
        """Tiles of it that differed."""
        return int(self._words[CHANGED])

    @property
    def _lanes(self) -> int:
        return self._plan.channels if self._plan.maps[0].is_interleaved else LANES

    def take(self, frame: Frame, whole: bool, fresh: bool, part: int, parts: int, within: Tiles | None = None) -> int:
        """Compare a frame, and take it in where it has changed; returns the nanoseconds that this took.

        Where much has changed, as it would be at the exposure of the reference frame, if that explains most of it.
        whole : take it in everywhere, as it is. fresh : marks may be left of a frame that failed. part, parts : of the
        turn of refresh (see `kernels.frame`). within : the only tiles that can differ from the frame before; all are
        looked at nevertheless where that one was not compared as it was.
        """
        words, exposure, tiles = self._words, self._exposure, len(self.grid)
        words[VALID], words[EVERYTHING], words[PART], words[PARTS] = not whole, fresh, part, parts
        words[SEEN], words[SEEN_END] = self._noise.next_part()
        words[MOST] = self._forecast.most_changed
        self._place_image()
        begun = time.perf_counter_ns()
        self._settled = not whole and exposure.is_settled
        if whole or self._settled:
            exposure.forget()
        asks = exposure.is_worth_trying and not self._settled
        follows, shown, suspect = self._mover.is_due, exposure.show(frame), int(SUSPICIOUS * tiles)
        hinted = within is not None and not whole and self._as_it_was and not exposure.active
        if within is not None:
            self._within[:] = within
        self._open(shown, suspect if asks or follows else tiles, hinted)
        self._motion = None
        if whole or words[CHANGED] <= suspect:
            self._mover.rest()
        elif not follows:
            self._mover.pass_over()
        elif words[DECISION] == ASK:
            self._follow(shown)
        if words[DECISION] == ASK:
            asks = asks and (exposure.active or words[CHANGED] > EXPOSED * tiles)
            most, known = int(HELPED * words[CHANGED]), shown is frame and not hinted
            if asks and exposure.match(frame, self.reference):
                self._open(exposure.show(frame), most)
                known = False
            if words[DECISION] == ASK:
                if asks:
                    exposure.fail()
                self._open(frame, tiles, known=known)
        if self._image is not None and self._is_read_again(part, parts) and self.decision == "partial":
            self.show(self._image[1])  # which other streams of this thread have used meanwhile
        if not whole and not words[HINTED]:
            self._noise.advance(self.reference)
        self._as_it_was = self._motion is None and not exposure.active
        exposure.advance()
        return time.perf_counter_ns() - begun

    def _is_read_again(self, part: int, parts: int) -> bool:
        """Whether this part of a turn recomputes pixels of a step that reads the image, wherever they are."""
        shares = (share_of_turn(start, end, part, parts) for start, end in self._read_in_turn)
        return parts > 0 and any(first < last for first, last in shares)

    def _follow(self, frame: Frame) -> None:
        """Where a picture has moved, move what is stored, and take the frame in."""
        found = self._mover.look(frame, self.reference, self.tiles, self._noise.limits)
        if found is not None:
            self._motion = found
            self._state.move(self._mover.moves)
            self.reference[:] = found.reference
            self._words[SEEN], self._words[SEEN_END] = 0, 0  # what came in says nothing of noise
            self._open(frame, len(self.grid))
            mark_strips(self.tiles, self.grid, found.down, found.right)

    def reset(self) -> None:
        """Forget all that was learnt from the frames so far."""
        self._noise.reset()
        self._exposure.reset()
        self._forecast.reset()
        self._mover.rest()

    def learn(self, fraction: float) -> None:
        """The last frame has done so much of a dense frame's work."""
        if self.decision == "keyframe":
            self._forecast.fade()
        elif self._words[PARTS] == 0 and self._motion is None:
            self._forecast.learn(self.changed, fraction)

    def reason(self, whole: bool) -> str:
        """Why the last frame was decided so. whole : it had to be recomputed, whatever it shows."""
        said = reason_of(self.decision, whole, self.changed, len(self.grid), self._forecast.limit)
        if self._motion is not None:
            said = f"picture moved by ({self._motion.down}, {self._motion.right}) px, {said}"
        if self._settled:
            return f"{said}, exposure settled"
        return f"{said}, exposure brought back" if self._exposure.active else said

    def show(self, place: Floats) -> None:
        """Make the whole input map, in `place`, from the reference frame."""
        plan, everything = self._plan, np.ones_like(self.tiles)
        show_tiles(
            self.reference, plan.table, *plan.line, everything, self.grid.tile, place, plan.maps[0].layout, self._lanes
        )  # fmt: skip

    def tiles_of(self, mask: npt.NDArray[np.uint8]) -> int:
        """Set `tiles` to those in which a mask uint8[H, W] of pixels has a mark; returns how many."""
        rows, columns = (np.arange(0, size, self.grid.tile) for size in mask.shape)
        marked = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int64), columns, axis=1)
        self.tiles[:] = marked > 0
        return int(np.count_nonzero(self.tiles))

    def _open(self, frame: Frame, suspect: int, hinted: bool = False, known: bool = False) -> None:
        """Compare, decide and take in; nothing but the answer `ASK` where more than `suspect` tiles have changed.

        hinted : nothing but the tiles told of can have. known : this frame was compared by the call before, and its
        answer was `ASK`.
        """
        words = self._words
        words[FRAME], words[SUSPECT], words[HINTED], words[KNOWN] = frame.ctypes.data, suspect, hinted, known
        open_frame(words)

    def _place_image(self) -> None:
        """Where the image lies outside the arena: in the thread's work space."""
        image, space, words = self._plan.maps[0], workspace(), self._words
        if not image.outside:
            return
        if self._image is None or self._image[0] is not space:
            place = space.image(image)
            self._image = space, place
            words[IMAGE], words[IMAGE + 1] = place.ctypes.data, place.size
        self._state.look_at(self._image[1])
