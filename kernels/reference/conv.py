"""Twins of `kernels.conv`."""

from __future__ import annotations

import numpy as np

from kernels.constants import HALF, LANES
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions


def convolve(
    arena: np.ndarray, source: Map, taps: np.ndarray, spans: np.ndarray, lanes: int, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bias plus the sum over taps and lanes, one group of output blocks after another."""
    corners = positions(source, pixels[:, 0] * stride_y, pixels[:, 1] * stride_x)
    raw, live = np.tile(bias, (len(pixels), 1)), np.ones(bias.size, np.bool_)
    for block, blocks, first_tap, tap_count, first_weight in spans:
        outputs = blocks * LANES or HALF
        columns, size = slice(block * LANES, block * LANES + outputs), lanes * outputs
        live[columns.stop : (block + 1) * LANES] = False
        for k in range(tap_count):
            start = first_weight + k * size
            kernel = weights[start : start + size].reshape(lanes, outputs)
            reads = corners[:, None] + taps[first_tap + k] // 4 + np.arange(lanes)
            raw[:, columns] += arena[reads] @ kernel
    return finish(arena, raw, slope, target, pixels, act, test, written, live)


def convolve_depthwise(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, stride_y: int, stride_x: int,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Bias plus the sum over taps, each channel by itself."""
    corners = positions(source, pixels[:, 0] * stride_y, pixels[:, 1] * stride_x)
    kernel = weights.reshape(planes.size, taps.size, LANES)
    raw = np.tile(bias, (len(pixels), 1))
    for k in range(taps.size):
        raw += arena[corners[:, None] + taps[k] // 4 + lanes_of(planes)] * kernel[:, k].reshape(-1)
    return finish(arena, raw, slope, target, pixels, act, test, written)
