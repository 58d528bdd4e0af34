"""Pictures of which a chosen share changes: what frames cost is measured on them."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.families import Size
from service.scene import Scene

Image: TypeAlias = NDArray[np.uint8]

MOVE_PX = 4
ALIGN_PX = 16
"""Blocks of a JPEG whose colours are halved: a change within one never leaves it."""
_COLUMNS, _ROWS = 8, 2  # figures, twice as high as wide in most cameras' pictures
_ORDER = (5, 10, 2, 15, 8, 0, 13, 7, 4, 11, 1, 14, 6, 9, 3, 12)
"""Cells one after the other, neighbours seldom next to each other."""


def pictures(size: Size, share: float) -> tuple[Image, Image]:
    """Two frames of which at most that share of the area differs: uint8[H, W, 3] BGR, of at least 64x64.

    The built-in scene with parts of another place in upright cells of an eighth by a half of it, whose edges lie on
    multiples of 16 px; what they show has moved by 4 px in the second. Alternating between them is what people who walk
    about do to a picture, in all of each cell at once. Both are the same for a share of 0.
    """
    plain, other = Scene(0, size).frame(0), Scene(3, size).frame(0)
    moved = plain.copy()
    for left, top, right, bottom in cells(size, share):
        part = other[top:bottom, left:right]
        plain[top:bottom, left:right] = part
        moved[top:bottom, left:right] = np.roll(part, MOVE_PX, axis=1)
    return plain, moved


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
