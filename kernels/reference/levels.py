"""Twins of `kernels.levels`."""

from __future__ import annotations

import numpy as np


def apply_levels(frame: np.ndarray, slope: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
    """In 64 bits, every pixel by itself."""
    channels = frame.shape[2]
    out[:] = np.clip((frame.astype(np.int64) * slope[:channels] + shift[:channels]) >> 12, 0, 255)
