"""Pictures of which a chosen share changes: what frames cost is measured on them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.families import Size
from service.scene import Scene

Image: TypeAlias = NDArray[np.uint8]

LEAST_PX = 64
"""Of a side of the scene."""
MOVE_PX = 4
ALIGN_PX = 16
"""Blocks of a JPEG whose colours are halved: a change within one never leaves it."""
_COLUMNS, _ROWS = 8, 2  # figures, twice as high as wide in most cameras' pictures
_ORDER = (5, 10, 2, 15, 8, 0, 13, 7, 4, 11, 1, 14, 6, 9, 3, 12)
"""Cells one after the other, neighbours seldom next to each other."""


def pictures(size: Size, share: float) -> tuple[Image, Image]:
    """Two frames of which at most that share of the area differs: uint8[H, W, 3] BGR.

    The built-in scene with parts of another place in upright cells of an eighth by a half of it, whose edges lie on
    multiples of 16 px; what they show has moved by 4 px in the second. Alternating between them is what people who walk
    about do to a picture, in all of each cell at once. Both are the same for a share of 0.
    """
    plain, other = scene(size).copy(), scene(size, 3)
    moved = plain.copy()
    for left, top, right, bottom in cells(size, share):
        part = other[top:bottom, left:right]
        plain[top:bottom, left:right] = part
        moved[top:bottom, left:right] = np.roll(part, MOVE_PX, axis=1)
    return plain, moved


@lru_cache(maxsize=8)
def scene(size: Size, seed: int = 0) -> Image:
    """A frame of the built-in scene, of any size: uint8[H, W, 3] BGR, not to be written to."""
    width, height = size
    whole = Scene(seed, (max(LEAST_PX, width), max(LEAST_PX, height))).frame(0)
    image = np.ascontiguousarray(whole[:height, :width])
    image.flags.writeable = False
    return image


def cells(size: Size, share: float) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of what differs, px; together about that share of the area, in whole blocks."""
    if share <= 0:
        return []
    width, height = size
    columns = _edges(width, _COLUMNS)
    rows = _edges(height, _ROWS)
    left_px, found = share * width * height, []
    for number in _ORDER:
        left, right = columns[number % _COLUMNS : number % _COLUMNS + 2]
        top, bottom = rows[number // _COLUMNS : number // _COLUMNS + 2]
        if right <= left or bottom <= top:
            continue
        high = min(bottom - top, math.ceil(left_px / (right - left) / ALIGN_PX) * ALIGN_PX)
        if high <= 0:
            break
        found.append((left, top, right, top + high))
        left_px -= high * (right - left)
    return found


def _edges(length: int, parts: int) -> list[int]:
    """Of equal parts, on multiples of 16 px but for the last."""
    inner = [round(length * n / parts / ALIGN_PX) * ALIGN_PX for n in range(parts)]
    return [*inner, length]
