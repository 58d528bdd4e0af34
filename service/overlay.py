"""Draws on a picture what was recomputed for it: tinted tiles, and a strip that tells how much of the network.

Knows pixels and the wire's `Changes`, no engine. The strip has a column for each stage of the network, from the image
on the left to the outputs on the right, filled as far as the stage was recomputed.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.wire import Changes

HEAT = (20, 170, 255)
"""BGR: amber, apart from the colours of boxes that come first."""
_TINT, _TINT_WHOLE = 0.30, 0.10
"""How much of the colour tiles get: a few of them, and all of them. A keyframe must not look like a sunset."""
_DARK = 0.35
"""What is left of the picture behind the strip."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def tiles_of(changes: Changes) -> NDArray[np.bool_]:
    """bool[rows, columns]: which tiles were recomputed."""
    counts = np.asarray(changes.counts, np.int64)
    return np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(changes.size)


def covered_pixels(changes: Changes, width: int, height: int) -> NDArray[np.bool_]:
    """bool[height, width]: pixels of a picture below recomputed tiles. What the grid does not cover is False.

    The picture may be another size than the frame that `changes` speaks of where `changes.xyxy` was scaled as well.
    """
    rows, columns = changes.size
    left, top, right, bottom = changes.xyxy
    if not rows or not columns or right <= left or bottom <= top:
        return np.zeros((height, width), bool)
    row = np.floor((np.arange(height) + 0.5 - top) / (bottom - top) * rows).astype(np.int64)
    column = np.floor((np.arange(width) + 0.5 - left) / (right - left) * columns).astype(np.int64)
    inside = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < columns))[None, :]
    tiles = tiles_of(changes)[row.clip(0, rows - 1)[:, None], column.clip(0, columns - 1)[None, :]]
    return np.asarray(tiles & inside, bool)


def tint(image: NDArray[np.uint8], changes: Changes) -> None:
    """Tint the recomputed tiles of uint8[H, W, 3] BGR, in place, with a thin line around them."""
    height, width = image.shape[:2]
    mask = covered_pixels(changes, width, height).astype(np.uint8)
    share = float(mask.mean())
    if not share:
        return
    strength = _TINT + (_TINT_WHOLE - _TINT) * share
    tinted = cv2.addWeighted(image, 1 - strength, np.full_like(image, HEAT), strength, 0)
    cv2.copyTo(tinted, mask, image)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, outlines, -1, HEAT, max(1, round(min(height, width) / 500)))


def strip(image: NDArray[np.uint8], changes: Changes, compute_fraction: float | None = None) -> None:
    """Draw the strip in the lower left corner of uint8[H, W, 3] BGR, in place; nothing where there is no room for it.

    compute_fraction : of the whole network, 0 to 1; None: the mean of the stages
    """
    stages = changes.stages
    share = compute_fraction if compute_fraction is not None else float(np.mean(stages)) if stages else 0.0
    text = f"recomputed {share:.0%} of the network"
    height, width = image.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    thickness = max(1, round(scale * 1.4))
    (text_width, text_height), base = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = round(text_height * 0.6) + 1
    tall, bar = text_height + base, max(3, round(text_height * 0.6))
    wide = 3 * pad + text_width + len(stages) * (bar + 1)
    top = height - tall - 2 * pad
    if top < 0 or wide > width:
        return
    panel = image[top:, :wide]
    panel[:] = (panel * _DARK).astype(np.uint8)
    cv2.putText(image, text, (pad, height - pad - base), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    for index, stage in enumerate(stages):
        left = 2 * pad + text_width + index * (bar + 1)
        right, bottom = left + bar - 1, height - pad - 1
        cv2.rectangle(image, (left, bottom - tall + 1), (right, bottom), (90, 90, 90), -1)
        filled = max(1, round(min(1.0, stage) * tall)) if stage > 0 else 0
        if filled:
            cv2.rectangle(image, (left, bottom - filled + 1), (right, bottom), HEAT, -1)
