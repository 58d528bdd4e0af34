"""Normalisation tables that are straight lines: those need no lookup."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.ingest import PATTERN
from kernels.target import VARIANT

Floats = npt.NDArray[np.float32]
NO_LINE: Floats = np.zeros(0, np.float32)


def line(table: Floats) -> tuple[Floats, Floats]:
    """slope and shift of `kernels.ingest`: float32[48] each, repeating channel by channel.

    table : float32[256, C]. Both are float32[0] where byte * slope + shift, rounded once (on a CPU without fused
    multiply-add: twice), is not the table bit for bit.
    """
    channels = table.shape[1]
    if PATTERN % channels or not np.isfinite(table).all():
        return NO_LINE, NO_LINE
    byte = np.arange(256, dtype=np.float64)[:, None]
    shift = table[0].astype(np.float64)
    middle = ((table[255].astype(np.float64) - shift) / 255).astype(np.float32)
    for slope in (middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))):
        product = byte * slope.astype(np.float64)  # exact: 8 bits by 24
        fused = (product + shift).astype(np.float32)
        twice = (product.astype(np.float32) + table[0]).astype(np.float32)
        if np.array_equal(fused, table) and (VARIANT != "generic" or np.array_equal(twice, table)):
            times = PATTERN // channels
            return np.tile(slope, times).astype(np.float32), np.tile(table[0], times).astype(np.float32)
    return NO_LINE, NO_LINE
