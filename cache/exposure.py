"""A camera that sets its exposure or white balance anew: every pixel differs, and nothing has moved.

Per channel, the frame is brought back to the exposure of the pixels that the maps were made from, by the straight line
that most of its pixels lie on; only what then still differs is recomputed. Not for long: once the camera has settled,
or has gone too far, a frame is taken as it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cache.change import Frame
from kernels.levels import PATTERN, apply_levels
from kernels.simd_image import FRACTION_BITS

ONE = 1 << FRACTION_BITS
SAMPLES = 1500
"""Pixels looked at, about, on a grid."""
FEWEST = 200
"""Pixels of a channel that must lie within its range on both sides."""
DARKEST, BRIGHTEST = 4, 251
ROUNDS = 4
SPREAD = 25.0
"""Variance (levels squared) from which a slope can be told."""
SLOPES = (0.5, 2.0)
SETTLED = 25
"""Frames without a new line after which a camera has settled."""
DOUBLINGS = 6
"""Of the wait after a failure, for each that follows: of a camera that moves, at last one frame in 64 is tried."""
MOST_FRAMES = 250
"""Frames after which it counts as settled, whatever happens: what is shown must not stay another exposure's."""

Line = tuple[float, float]


def can_be_brought_back(most: float, channels: int) -> bool:
    """Whether frames of so many channels are, of up to `most` levels: 48 bytes must be whole pixels."""
    return most > 0 and PATTERN % channels == 0


class Exposure:
    """How one stream's frames are brought back to the exposure of its reference frame.

    most : mean change of a pixel, in levels, that is still brought back; 0 for never. shape : (H, W, C) of its frames;
    of C that do not divide 48 none is brought back.
    """

    def __init__(self, most: float, shape: tuple[int, int, int]) -> None:
        self._channels = shape[2]
        self._most = most if can_be_brought_back(most, self._channels) else 0.0
        self._slope = np.zeros(PATTERN, np.int32)
        self._shift = np.zeros(PATTERN, np.int32)
        self._shown: Frame = np.empty(shape if self._most > 0 else (0, 0, 0), np.uint8)
        self._frames = self._steady = self._failures = self._wait = 0
        self.active = False

    @property
    def nbytes(self) -> int:
        """Memory held: a frame."""
        return self._shown.nbytes

    @property
    def is_settled(self) -> bool:
        """Whether it is time to take frames as they are again."""
        return self.active and (self._steady >= SETTLED or self._frames >= MOST_FRAMES)

    @property
    def is_worth_trying(self) -> bool:
        """Whether a frame of which much has changed should be matched."""
        return self.active or (self._most > 0 and self._wait == 0)

    def reset(self) -> None:
        """Take frames as they are, and forget what did not help."""
        self.forget()
        self._failures = self._wait = 0

    def forget(self) -> None:
        """Take frames as they are."""
        self.active, self._frames, self._steady = False, 0, 0

    def fail(self) -> None:
        """It did not help: take frames as they are, and for longer each time before it is tried again."""
        self.forget()
        self._failures = min(self._failures + 1, DOUBLINGS)
        self._wait = 1 << self._failures

    def show(self, frame: Frame) -> Frame:
        """The frame as it would be at the reference's exposure: itself, or uint8[H, W, C] until the next call."""
        if not self.active:
            return frame
        apply_levels(frame, self._slope, self._shift, self._shown)
        return self._shown

    def advance(self) -> None:
        """A frame has been taken."""
        if self.active:
            self._frames, self._steady, self._failures = self._frames + 1, self._steady + 1, 0
        self._wait = max(self._wait - 1, 0)

    def match(self, frame: Frame, reference: Frame) -> bool:
        """Find the lines that take the frame to the reference; False where none are found, or they go too far.

        frame, reference : uint8[H, W, C].
        """
        step = max(int((frame.shape[0] * frame.shape[1] / SAMPLES) ** 0.5), 1)
        seen, wanted = (
            image[step // 2 :: step, step // 2 :: step].reshape(-1, self._channels).astype(np.float32)
            for image in (frame, reference)
        )
        lines = [fit_line(seen[:, c], wanted[:, c]) for c in range(self._channels)]
        found = [line for line in lines if line is not None]
        if len(found) < self._channels:
            return False
        moved = sum(float(np.abs(seen[:, c] * (a - 1) + b).mean()) for c, (a, b) in enumerate(found)) / self._channels
        if moved > self._most:
            return False
        self._slope[:] = np.resize([round(a * ONE) for a, _ in found], PATTERN)
        self._shift[:] = np.resize([round(b * ONE) + ONE // 2 for _, b in found], PATTERN)
        self.active, self._steady = True, 0
        return True


def fit_line(seen: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> Line | None:
    """Slope and offset with which most of `wanted` is slope * seen + offset; None where too little can be seen.

    seen, wanted : float32[n], levels of the same pixels. Least squares, over and over on the pixels that lie within two
    and a half times the median distance of the line before (trimmed least squares: Rousseeuw and Leroy, Robust
    Regression and Outlier Detection, 1987).
    """
    inside = (seen > DARKEST) & (seen < BRIGHTEST) & (wanted > DARKEST) & (wanted < BRIGHTEST)
    x, y = seen[inside], wanted[inside]
    if x.size < FEWEST:
        return None
    slope, offset = 1.0, float(np.median(y - x))
    for _ in range(ROUNDS):
        distance = np.abs(y - slope * x - offset)
        near = distance <= max(2.0, 2.5 * float(np.median(distance)))
        u, v = x[near], y[near]
        around = u - u.mean()
        variance = float((around * around).mean())
        slope = float((around * v).mean()) / variance if variance > SPREAD else 1.0
        offset = float(v.mean() - slope * u.mean())
    return (slope, offset) if SLOPES[0] <= slope <= SLOPES[1] else None
