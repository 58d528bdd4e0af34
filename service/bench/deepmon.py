"""DeepMon's rule of caching, on our kernels: what ours is compared with. No part of the engine.

Huynh, Lee and Balan ("DeepMon: Mobile GPU-based Deep Learning Framework for Continuous Vision Applications", MobiSys
2017) divide a frame into blocks, compare the colour histogram of each with that of the same block one frame before,
and take blocks that are alike from the cache, for the first N convolutions; what a window shares with a block that
changed is computed anew, so that less of a cached block is left after each layer. The layers after those are computed
in full.

The rule is an open loop: a block is compared with the frame before, not with the pixels that the cached maps were made
from. What changes slowly, or moves within a block, is never seen.

How it is put together here: the stream's picture takes new pixels only in blocks that changed, and a session with all
thresholds at zero recomputes what they reach, up to the N-th convolution; then every step is run whole. That is kinder
than the paper where bytes of a changed block, or bits of a step's result, are what they were: their readers are
spared; and a frame without a changed block costs nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache.change import Frame
from cache.plan import Plan
from cache.policy import Policy
from cache.session import FrameResult, Session
from cache.state import workspace
from cache.team import helpers
from kernels.frame import (
    JOBS,
    MEASURED,
    PACKED,
    WHOLE,
    WORKERS,
    begin_frame,
    end_frame,
    run_together,
)
from kernels.jit import jit
from kernels.program import NO_SPREAD

Blocks = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """block_px : edge of a block, a multiple of 16. bins : of a colour channel's histogram, a power of two up to 256.
    distance : chi-square distance of two histograms of shares, 0 to 1, above which a block has changed; the worst
    channel's counts. layers : share of the convolutions that are cached, from the first one on. renew_frames : after
    so many frames everything is computed anew; 0 for never.

    The paper chooses these figures by measuring for its phones and networks; the defaults are ours.
    """

    block_px: int = 32
    bins: int = 16
    distance: float = 0.005
    layers: float = 0.5
    renew_frames: int = 0

    def __post_init__(self) -> None:
        if self.block_px < 16 or self.block_px % 16:
            raise ValueError(f"expected blocks of a multiple of 16 px, got {self.block_px}")
        if self.bins not in (2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"expected a power of two of bins, from 2 to 256, got {self.bins}")
        if not 0 <= self.distance <= 1:
            raise ValueError(f"expected a distance of 0 to 1, got {self.distance}")
        if not 0 <= self.layers <= 1:
            raise ValueError(f"expected a share of the convolutions from 0 to 1, got {self.layers}")
        if self.renew_frames < 0:
            raise ValueError(f"expected 0 frames or more, got {self.renew_frames}")


@jit
def histograms(frame: np.ndarray, block: int, shift: int, out: np.ndarray) -> None:
    """Count the values of each block of a frame uint8[H, W, C] by their upper bits.

    out : float32[ceil(H / block), ceil(W / block), C, 256 >> shift], written to.
    """
    height, width, channels = frame.shape
    out[:] = 0
    for row in range(out.shape[0]):
        for y in range(row * block, min(row * block + block, height)):
            for column in range(out.shape[1]):
                for x in range(column * block, min(column * block + block, width)):
                    for c in range(channels):
                        out[row, column, c, frame[y, x, c] >> shift] += np.float32(1)


def distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chi-square distance of two sets of histograms, 0 to 1: float32[rows, columns], the worst channel's.

    Half the sum of (a - b)^2 / (a + b) over the bins, of shares of the block's pixels.
    """
    total = one + other
    parts = np.square(one - other) / np.where(total > 0, total, np.float32(1))
    pixels = one.sum(-1)
    found: NDArray[np.float32] = (parts.sum(-1) / (2 * pixels)).max(-1)
    return found


class BlockChange:
    """Which blocks of a frame differ from those of the frame before, by their histograms. Remembers one frame's."""

    def __init__(self, rule: Rule, shape: tuple[int, int, int]) -> None:
        """shape : (H, W, C) of every frame."""
        height, width, channels = shape
        self._rule = rule
        self.grid = -(-height // rule.block_px), -(-width // rule.block_px)
        size = (*self.grid, channels, rule.bins)
        self._now, self._before = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._shift = 8 - rule.bins.bit_length() + 1
        self._fresh = True

    def forget(self) -> None:
        """In the next frame, every block has changed."""
        self._fresh = True

    def compare(self, frame: Frame) -> Blocks:
        """bool[rows, columns]: the blocks that changed; all of them of the first frame."""
        self._now, self._before = self._before, self._now
        histograms(frame, self._rule.block_px, self._shift, self._now)
        if self._fresh:
            self._fresh = False
            return np.ones(self.grid, np.bool_)
        return distances(self._now, self._before) > self._rule.distance

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._now.nbytes + self._before.nbytes


def policy_of(policy: Policy) -> Policy:
    """The engine's policy without a change detector of its own: every byte that differs is taken in. Maps of float32:
    steps that run whole after some that did not would take float16 ones for staged.
    """
    return replace(
        policy, tile=16, tile_difference=0.0, tile_noise=0.0, exposure=0.0, motion=False, refresh_frames=0,
        refresh_s=0.0, keyframe_fraction=1.0, cache_dtype="float32",
    )  # fmt: skip


def cached_steps(plan: Plan, share: float) -> int:
    """How many steps of a plan come before the end of that share of its convolutions, rounded to whole ones."""
    convolutions = [index for index, planned in enumerate(plan.steps) if planned.step.macs > 0]
    count = round(share * len(convolutions))
    return convolutions[count - 1] + 1 if count else 0


class _Front(Session):
    """A session whose partial frames compute what is stale of the first steps, and the others whole."""

    def __init__(self, plan: Plan, steps: int, threads: int) -> None:
        super().__init__(plan, threads=threads)
        self._front = steps
        later = (read.map for planned in plan.steps[steps:] for read in planned.step.reads)
        self._shows_all = plan.maps[0].outside and 0 in later  # else the image is made around what has changed alone
        self.scale_thresholds(0.0)

    def _run(self, keyframe: bool, fresh: bool) -> None:
        if keyframe:
            super()._run(keyframe, fresh)
            return
        words, space, end = self._running, workspace(), len(self.plan.steps)
        if self._shows_all:
            self._opening.show(space.image(self.plan.maps[0]))
        with helpers(self.threads) as team:
            self._state.borrow(space, self.plan.needs, team.workers)
            words[PACKED:JOBS] = space.words
            words[WORKERS], words[WHOLE], words[MEASURED] = team.workers, 0, NO_SPREAD
            team.begin(self._jobs, self._ticket)
            try:
                begin_frame(words, self._front)
                words[WHOLE] = 1
                run_together(np.array([words.ctypes.data]), np.array([self._front, end]))
                self._done = end_frame(words)
            finally:
                team.end(self._ticket)
        self._run_tails(True)


class DeepMon:
    """One stream under DeepMon's rule. Not thread-safe."""

    def __init__(self, plan: Plan, rule: Rule | None = None, threads: int = 1) -> None:
        """plan : compiled under `policy_of`."""
        self._rule = rule or Rule()
        self._blocks = BlockChange(self._rule, (plan.height, plan.width, plan.channels))
        self._session = _Front(plan, cached_steps(plan, self._rule.layers), threads)
        self._picture = np.zeros((plan.height, plan.width, plan.channels), np.uint8)
        self._since = 0
        self.changed = np.zeros(self._blocks.grid, np.bool_)
        """The blocks that the last frame changed."""

    @property
    def nbytes(self) -> int:
        """Memory that the stream holds."""
        return self._session.nbytes + self._picture.nbytes + self._blocks.nbytes

    @property
    def session(self) -> Session:
        """The session that computes."""
        return self._session

    def reset(self) -> None:
        """Forget all; the next frame is computed whole."""
        self._blocks.forget()
        self._session.reset()
        self._since = 0

    def push(self, frame: Frame) -> FrameResult:
        """Run one frame uint8[H, W, C] at the plan's size. The result's tiles are those whose pixels were taken in."""
        if self._rule.renew_frames and self._since == self._rule.renew_frames:
            self.reset()
        self._since += 1
        self.changed = self._blocks.compare(frame)
        edge, (height, width) = self._rule.block_px, self._picture.shape[:2]
        mask = self.changed.repeat(edge, 0).repeat(edge, 1)[:height, :width]
        np.copyto(self._picture, frame, where=mask[:, :, None])
        return self._session.push(self._picture)
