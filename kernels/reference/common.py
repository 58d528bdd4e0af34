"""What the twins share: positions in the arena, activations, and the decision to write."""

from __future__ import annotations

import numpy as np

from kernels.constants import (
    CLIP,
    HARD_SIGMOID,
    IDENTITY,
    LANES,
    PRELU,
    RELU,
    SIGMOID,
    SILU,
    STORE,
    TEST_RMS,
)
from kernels.layout import Act, Map, Test

Array = np.ndarray


def positions(at: Map, ys: Array, xs: Array) -> Array:
    """int64[n], element of the arena where each pixel's first lane lies."""
    return at.origin + ys.astype(np.int64) * at.row + xs.astype(np.int64) * at.pixel


def lanes_of(planes: Array) -> Array:
    """int64[blocks * 16], offset of each lane from its pixel's first."""
    return (np.asarray(planes, np.int64)[:, None] + np.arange(LANES)).reshape(-1)


def activate(x: Array, act: Act, slope: Array) -> Array:
    """The activation of x float32[n, channels], with one slope per channel."""
    alpha, beta = np.float32(act.alpha), np.float32(act.beta)
    if act.kind == IDENTITY:
        return x
    if act.kind == RELU:
        return np.where(x > 0, x, np.float32(0))
    if act.kind == CLIP:
        raised = np.where(x > alpha, x, alpha)
        return np.where(raised < beta, raised, beta)
    if act.kind == PRELU:
        return np.where(x > 0, x, x * slope[: x.shape[1]])
    gate: Array
    if act.kind in (SILU, SIGMOID):
        gate = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
        return x * gate if act.kind == SILU else gate
    gate = np.clip(x * alpha + beta, np.float32(0), np.float32(1))
    return gate if act.kind == HARD_SIGMOID else x * gate


def finish(
    arena: Array, raw: Array, slope: Array, target: Map, pixels: Array, act: Act, test: Test, written: Array,
    live: Array | None = None,
) -> int:  # fmt: skip
    """Activate raw float32[n, channels], write the groups of pixels that pass the test, count them.

    live : bool[channels]; the others become 0, and are not compared.
    """
    blocks = raw.shape[1] // LANES
    first_lanes = positions(target, pixels[:, 0], pixels[:, 1])
    where = first_lanes[:, None] + lanes_of(np.arange(blocks) * target.plane)
    if act.before:
        raw = raw + arena[where + act.before // 4]
    with np.errstate(over="ignore"):  # the lowest value, from a window outside the map, times a slope
        values = activate(raw, act, slope)
    if act.after:
        values = values + arena[where + act.after // 4]
    stored = arena[where]
    if live is not None:
        values, stored = np.where(live, values, np.float32(0)), np.where(live, stored, np.float32(0))
    differs = np.any(values.view(np.uint32) != stored.view(np.uint32), axis=1)
    if test.mode == STORE:
        differs[:] = True
    elif test.mode == TEST_RMS:
        with np.errstate(over="ignore", invalid="ignore"):
            differs = ~(np.sum(np.square(values - stored), axis=1) <= np.float32(test.limit))
    if test.mode == STORE and test.limit < 0:
        arena[where] = values
        return len(pixels)
    group, before = test.block * test.block, np.count_nonzero(written)
    for first in range(0, len(pixels), group):
        members = slice(first, first + group)
        if np.any(differs[members]):
            arena[where[members]] = values[members]
            written[pixels[members, 0], pixels[members, 1]] = 1
    return int(np.count_nonzero(written) - before)
