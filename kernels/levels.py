"""A frame's bytes through one straight line per channel: another exposure, another white balance.

Knows bytes only.
"""

from __future__ import annotations

import numpy as np

from kernels.jit import jit
from kernels.simd import address_of
from kernels.simd_image import FRACTION_BITS, map_bytes

__all__ = ["apply_levels"]

PATTERN = 48
"""Bytes that are treated together: whole pixels of 1, 2, 3 or 4 channels."""


@jit
def apply_levels(frame: np.ndarray, slope: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
    """out = (frame * slope + shift) >> 12, held within 0 and 255: in integers, the same on every CPU.

    frame, out : uint8[H, W, C], C-contiguous, C divides 48. slope, shift : int32[48], channel by channel, over and
    over; 4096 is a slope of one, and half of it in `shift` rounds. Results before the shift must fit 32 bits.
    """
    whole = frame.size // PATTERN
    map_bytes(address_of(frame), address_of(out), address_of(slope), address_of(shift), whole)
    flat, written = frame.reshape(-1), out.reshape(-1)
    for i in range(whole * PATTERN, frame.size):
        at = i - whole * PATTERN
        value = (np.int64(flat[i]) * slope[at] + shift[at]) >> FRACTION_BITS
        written[i] = np.uint8(min(max(value, 0), 255))
