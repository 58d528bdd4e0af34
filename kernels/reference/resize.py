"""Twin of `kernels.resize`."""

from __future__ import annotations

import numpy as np

from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions


def resize(
    arena: np.ndarray, source: Map, planes: np.ndarray, rows: np.ndarray, row_weights: np.ndarray,
    columns: np.ndarray, column_weights: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray,
    act: Act, test: Test, scratch: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Blend columns, then rows; a weight of zero takes the first as it is."""
    ys, xs = pixels[:, 0], pixels[:, 1]
    row_weight, column_weight = row_weights[ys][:, None], column_weights[xs][:, None]

    def blended_columns(y: np.ndarray) -> np.ndarray:
        left = arena[positions(source, y, columns[xs, 0])[:, None] + lanes_of(planes)]
        right = arena[positions(source, y, columns[xs, 1])[:, None] + lanes_of(planes)]
        blended: np.ndarray = np.where(column_weight == 0, left, left + column_weight * (right - left))
        return blended

    top, bottom = blended_columns(rows[ys, 0]), blended_columns(rows[ys, 1])
    raw = np.where(row_weight == 0, top, top + row_weight * (bottom - top))
    return finish(arena, raw, slope, target, pixels, act, test, written)
