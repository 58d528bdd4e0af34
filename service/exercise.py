"""Pictures that between them make the engine do all that it may have to do with a camera's frames.

Whoever compiles kernels beforehand, or times frames, runs these first: else a kernel is made when a camera first moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

STEP_PX = 32
"""A multiple of most networks' stride, which their maps can follow."""
NOISE = 2
BRIGHTER = 1.15
DIFFERENT = 12
FRAMES = 40
"""More than a stream counts noise in, before it sets its limits anew (`cache.noise`)."""


def pictures(width: int, height: int, channels: int) -> Iterator[npt.NDArray[np.uint8]]:
    """uint8[height, width, channels]: `DIFFERENT` pictures of one scene, then the last one again and again."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    scene = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].copy()
    for number in range(FRAMES):
        frame, kind = scene.copy(), number % 6 if number < DIFFERENT else 0
        if kind == 1:
            frame[: height // 3, : width // 3] = 30 + 5 * number
        elif kind in (2, 4):
            noise = rng.integers(-NOISE, NOISE + 1, frame.shape)
            frame = np.clip(frame.astype(np.int16) + noise, 0, 255).astype(np.uint8)
        elif kind == 3:  # before the exposure is another one: what moves then is not recognised
            scene = np.roll(scene, (STEP_PX, STEP_PX), (0, 1))
            frame = scene.copy()
        elif kind == 5:
            frame = np.clip(frame * BRIGHTER, 0, 255).astype(np.uint8)
        yield frame
