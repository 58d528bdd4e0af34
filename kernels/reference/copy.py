"""Twins of `kernels.copy`."""

from __future__ import annotations

import numpy as np

from kernels.constants import IDENTITY
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions

_AS_IT_IS = Act(IDENTITY, 0.0, 0.0)


def copy_pixels(
    arena: np.ndarray, source: Map, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray, target: Map,
    pixels: np.ndarray, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """The source pixel that the tables name, zeros where one of them is negative."""
    ys, xs = rows[pixels[:, 0]], columns[pixels[:, 1]]
    inside = (ys >= 0) & (xs >= 0)
    raw = np.zeros((len(pixels), planes.size * 16), np.float32)
    raw[inside] = arena[positions(source, ys[inside], xs[inside])[:, None] + lanes_of(planes)]
    return finish(arena, raw, raw[0], target, pixels, _AS_IT_IS, test, written)


def pack_channels(
    arena: np.ndarray, source: Map, channels: np.ndarray, target: Map, pixels: np.ndarray, test: Test,
    scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """The channels that the table names, zeros where it is negative."""
    raw = np.zeros((len(pixels), channels.size), np.float32)
    named = channels >= 0
    raw[:, named] = arena[positions(source, pixels[:, 0], pixels[:, 1])[:, None] + channels[named]]
    return finish(arena, raw, raw[0], target, pixels, _AS_IT_IS, test, written)
