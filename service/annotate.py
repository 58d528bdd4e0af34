"""Draws results on a frame. Knows pixels and wire results, no model."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.wire import ClassScore, Detection

_GOLDEN = 0.618034  # steps through the hues without coming near one used shortly before
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def colour_of(class_id: int) -> tuple[int, int, int]:
    """A strong BGR colour for a class, the same always."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN) % 1.0, 0.85, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def annotate(
    frame: NDArray[np.uint8],
    detections: Sequence[Detection] | None = None,
    classes: Sequence[ClassScore] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the frame, uint8[H, W, 3] BGR, with boxes, keypoints and captions drawn."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"expected a frame uint8[H, W, 3], got {frame.dtype}{list(frame.shape)}")
    image = frame.copy()
    height, width = image.shape[:2]
    line = max(1, round(min(height, width) / 300))
    scale = max(0.4, min(height, width) / 900)
    for detection in sorted(detections or (), key=lambda found: found.score):  # the strongest on top
        colour = colour_of(detection.class_id)
        left, top, right, bottom = (round(value) for value in detection.xyxy)
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        for x, y, visibility in detection.keypoints or ():
            if visibility > 0:
                cv2.circle(image, (round(x), round(y)), line + 1, colour, -1)
        _caption(image, f"{detection.label} {detection.score:.0%}", (left, top), colour, scale)
    for row, entry in enumerate(classes or ()):
        at = (0, round((row + 1) * 30 * scale))
        _caption(image, f"{entry.label} {entry.score:.0%}", at, colour_of(entry.class_id), scale)
    return image


def _caption(
    image: NDArray[np.uint8], text: str, at: tuple[int, int], colour: tuple[int, int, int], scale: float
) -> None:
    """Text on a filled ground above `at`, kept inside the image; letters beyond ASCII become '?'."""
    shown = text.encode("ascii", "replace").decode()
    thickness = max(1, round(scale * 1.5))
    (text_width, text_height), base = cv2.getTextSize(shown, _FONT, scale, thickness)
    left = max(0, min(at[0], image.shape[1] - text_width))
    bottom = max(text_height + base, at[1])
    cv2.rectangle(image, (left, bottom - text_height - base), (left + text_width, bottom), colour, -1)
    blue, green, red = colour
    dark_ground = 0.114 * blue + 0.587 * green + 0.299 * red < 140
    ink = (255, 255, 255) if dark_ground else (0, 0, 0)
    cv2.putText(image, shown, (left, bottom - base), _FONT, scale, ink, thickness, cv2.LINE_AA)
