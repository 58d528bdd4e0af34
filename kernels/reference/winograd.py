"""Twin of `kernels.winograd`."""

from __future__ import annotations

import numpy as np

from kernels.constants import LANES
from kernels.layout import Act, Map, Test
from kernels.reference.common import finish, lanes_of, positions

INTO = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
     [0, 4, 0, -5, 0, 1]], np.float32,
)  # fmt: skip
"""Transforms a line of six values."""
OUT_OF = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)
"""Transforms a line of six products into four results."""
TILES = 24


def convolve_winograd(
    arena: np.ndarray, source: Map, planes: np.ndarray, taps: np.ndarray, spans: np.ndarray, weights: np.ndarray,
    bias: np.ndarray, slope: np.ndarray, target: Map, pixels: np.ndarray, act: Act, test: Test, scratch: np.ndarray,
    work: np.ndarray, written: np.ndarray,
) -> int:  # fmt: skip
    """Transform patches of 6 x 6, multiply point by point, transform back, for all blocks at once."""
    corners = pixels.reshape(-1, 16, 2)
    first = positions(source, corners[:, 0, 0], corners[:, 0, 1])
    inner = np.arange(6)[:, None] * source.row + np.arange(6) * source.pixel
    patches = arena[first[:, None, None, None] + inner[:, :, None] + lanes_of(planes)]
    points = np.einsum("ai,nijc,bj->nabc", INTO, patches, INTO).reshape(len(first), 36, -1)
    products = np.zeros((len(first), 36, bias.size), np.float32)
    per_point, taps_of = weights.reshape(36, -1), taps.reshape(36, -1)
    for point in range(36):
        for block, blocks, first_tap, tap_count, first_weight in spans:
            columns, size = slice(block * LANES, (block + blocks) * LANES), LANES * blocks * LANES
            for k in range(tap_count):
                start = first_weight + k * size
                matrix = per_point[point, start : start + size].reshape(LANES, blocks * LANES)
                lane = (taps_of[point, first_tap + k] // (4 * LANES * TILES) - point * planes.size) * LANES
                products[:, point, columns] += points[:, point, lane : lane + LANES] @ matrix
    tiles = np.einsum("ai,nijc,bj->nabc", OUT_OF, products.reshape(-1, 6, 6, bias.size), OUT_OF) + bias
    place = corners - corners[:, :1]
    raw = tiles[np.arange(len(first))[:, None], place[..., 0], place[..., 1]].reshape(-1, bias.size)
    return finish(arena, raw.astype(np.float32), slope, target, pixels, act, test, written)
