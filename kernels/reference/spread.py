"""NumPy twin of `kernels.spread`."""

from __future__ import annotations

import math

import numpy as np

from kernels.layout import Map

SAMPLES = 1024


def spread(arena: np.ndarray, source: Map, height: int, width: int, lanes: np.ndarray) -> float:
    """See `kernels.spread.spread`."""
    step = 2
    while math.ceil(height / step) * math.ceil(width / step) > SAMPLES:
        step += 1
    ys, xs = np.arange(0, height, step), np.arange(0, width, step)
    at = source.origin + ys[:, None] * source.row + xs * source.pixel
    values = arena[at[..., None] + lanes // 16 * source.plane + lanes % 16]
    wide = values.astype(np.float64)
    mean = wide.sum() / max(wide.size, 1)
    return math.sqrt(max((wide * wide).sum() / max(wide.size, 1) - mean * mean, 0.0))
