"""Frames that fail half way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.frame import STEPS, run_frame


def failing_after(steps: int) -> Callable[[np.ndarray], float]:
    """A stand-in for `kernels.frame.run_frame` that computes the first steps of a plan, then fails."""

    def fail(words: np.ndarray) -> float:
        cut = words.copy()
        cut[STEPS + 1] = steps
        run_frame(cut)
        raise MemoryError("made by the test")

    return fail
