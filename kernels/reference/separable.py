"""Twin of `kernels.separable`."""

from __future__ import annotations

import numpy as np

from kernels.constants import STORE
from kernels.layout import Act, Map, Test
from kernels.reference.conv import convolve, convolve_depthwise


def convolve_separable(
    arena: np.ndarray, source: Map, planes: np.ndarray, window: np.ndarray, kernels: np.ndarray, first_bias: np.ndarray,
    first_slope: np.ndarray, first_act: Act, stride_y: int, stride_x: int, taps: np.ndarray, spans: np.ndarray,
    lanes: int, weights: np.ndarray, bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act,
    test: Test, scratch: np.ndarray, work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """One after the other, by way of a map past the arena's end."""
    height, width = written.shape
    pixel = planes.size * 16
    between = Map(arena.size, 16, width * pixel, pixel)
    longer = np.concatenate([arena, np.zeros(height * width * pixel, np.float32)])
    convolve_depthwise(
        longer, source, planes, window, kernels, first_bias, first_slope, between, pixels, stride_y, stride_x,
        first_act, Test(STORE, 0.0, 1), scratch, np.zeros_like(written),
    )  # fmt: skip
    total = convolve(
        longer, between, taps, spans, lanes, weights, bias, slope, target, pixels, 1, 1, act, test, scratch, written
    )  # fmt: skip
    arena[:] = longer[: arena.size]
    return total
