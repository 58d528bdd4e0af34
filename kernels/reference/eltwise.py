"""Twins of `kernels.eltwise`."""

from __future__ import annotations

import numpy as np

from kernels.constants import ADD, MAX, MUL, SUB
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions


def combine(
    op: int, arena: np.ndarray, first: Map, first_planes: np.ndarray, second: Map, second_planes: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """One NumPy operation on the values of both maps."""
    a = arena[positions(first, pixels[:, 0], pixels[:, 1])[:, None] + lanes_of(first_planes)]
    b = arena[positions(second, pixels[:, 0], pixels[:, 1])[:, None] + lanes_of(second_planes)]
    if op == ADD:
        raw = a + b
    elif op == SUB:
        raw = a - b
    elif op == MUL:
        raw = a * b
    elif op == MAX:
        raw = np.where(a > b, a, b)
    else:
        raw = np.where(a < b, a, b)
    return finish(arena, raw, slope, target, pixels, act, test, written)


def affine(
    arena: np.ndarray, source: Map, planes: np.ndarray, scale: np.ndarray, shift: np.ndarray,
    slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    written: np.ndarray,
) -> int:  # fmt: skip
    """scale * x + shift."""
    x = arena[positions(source, pixels[:, 0], pixels[:, 1])[:, None] + lanes_of(planes)]
    return finish(arena, x * scale + shift, slope, target, pixels, act, test, written)
