"""Twin of `kernels.bfloat16`."""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, positions


def narrowed(values: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


def convolve_bfloat16(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, weights: np.ndarray, bias: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int, act: Act, test: Test,
    scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bias plus the sum over taps and pairs of rounded inputs, one group of output blocks after another."""
    corners = positions(source, pixels[:, 0] * stride_y, pixels[:, 1] * stride_x)
    inputs = narrowed(arena[(corners[:, None] + taps // 4)[:, :, None] + np.arange(LANES)])
    raw = np.tile(bias, (len(pixels), 1))
    for block, blocks, first in spans:
        bits = weights[first : first + taps.size * LANES * blocks * LANES // 2].view(np.uint16)
        pairs = bits.reshape(taps.size, LANES // 2, blocks * LANES, 2).transpose(0, 1, 3, 2)
        kernel = (pairs.astype(np.uint32) << 16).view(np.float32).reshape(taps.size, LANES, blocks * LANES)
        for k in range(taps.size):
            raw[:, block * LANES : (block + blocks) * LANES] += inputs[:, k] @ kernel[k]
    return finish(arena, raw, slope, target, pixels, act, test, written)
