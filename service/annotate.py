"""Draws results on a frame. Knows pixels and wire results, no model."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.wire import Changes, ClassScore, Detection
from service.overlay import strip, tint

_GOLDEN = 0.618034  # steps through the hues without coming near one used shortly before
_FONT = cv2.FONT_HERSHEY_SIMPLEX

_Rectangle: TypeAlias = tuple[int, int, int, int]
"""left, top, right, bottom, pixels; all of them belong to it"""


def colour_of(class_id: int) -> tuple[int, int, int]:
    """A strong BGR colour for a class, the same always."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN) % 1.0, 0.85, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def annotate(
    frame: NDArray[np.uint8],
    detections: Sequence[Detection] | None = None,
    classes: Sequence[ClassScore] | None = None,
    changes: Changes | None = None,
    compute_fraction: float | None = None,
) -> NDArray[np.uint8]:
    """A copy of the frame, uint8[H, W, 3] BGR, with boxes, keypoints and captions drawn.

    changes : what was recomputed, to be drawn below them; None: not. compute_fraction : to be told with it.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"expected a frame uint8[H, W, 3], got {frame.dtype}{list(frame.shape)}")
    image = frame.copy()
    if changes is not None:
        tint(image, changes)
    height, width = image.shape[:2]
    line = max(1, round(min(height, width) / 300))
    captions = _Captions(image, max(0.4, min(height, width) / 900))
    for row, entry in enumerate(classes or ()):
        text = f"{entry.label} {entry.score:.0%}"
        captions.add(text, 0, (round((row + 1) * 30 * captions.scale),), colour_of(entry.class_id))
    strongest_first = sorted(detections or (), key=lambda found: found.score, reverse=True)
    for detection in reversed(strongest_first):  # the strongest on top
        colour = colour_of(detection.class_id)
        left, top, right, bottom = (round(value) for value in detection.xyxy)
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        for x, y, visibility in detection.keypoints or ():
            if visibility > 0:
                cv2.circle(image, (round(x), round(y)), line + 1, colour, -1)
    for detection in strongest_first:
        left, top, _, bottom = (round(value) for value in detection.xyxy)
        number = "" if detection.track_id is None else f"#{detection.track_id} "
        text = f"{number}{detection.label} {detection.score:.0%}"
        tall = captions.height(text) + line
        captions.add(text, left, (top, top + tall, bottom + tall), colour_of(detection.class_id))
    captions.draw()
    if changes is not None:
        strip(image, changes, compute_fraction)
    return image


class _Captions:
    """Captions of one image, kept inside it and, where there is room, off one another."""

    def __init__(self, image: NDArray[np.uint8], scale: float) -> None:
        self.scale = scale
        self._image = image
        self._thickness = max(1, round(scale * 1.5))
        self._placed: list[tuple[str, _Rectangle, int, tuple[int, int, int]]] = []

    def height(self, text: str) -> int:
        """Height of a caption, pixels."""
        _, text_height, base = self._size(text)
        return text_height + base

    def add(self, text: str, left: int, bottoms: Sequence[int], colour: tuple[int, int, int]) -> None:
        """Place a caption at the first of its lower edges where it covers none placed before, else at the first."""
        shown = text.encode("ascii", "replace").decode()  # the font has no more
        width, text_height, base = self._size(shown)
        tall = text_height + base
        left = max(0, min(left, self._image.shape[1] - width))
        inside = [max(tall, min(bottom, self._image.shape[0])) for bottom in bottoms]
        places = [(left, bottom - tall, left + width, bottom) for bottom in inside]
        place = next((place for place in places if self._is_free(place)), places[0])
        self._placed.append((shown, place, base, colour))

    def draw(self) -> None:
        """Draw them, those placed first on top."""
        for text, (left, top, right, bottom), base, colour in reversed(self._placed):
            cv2.rectangle(self._image, (left, top), (right, bottom), colour, -1)
            blue, green, red = colour
            dark_ground = 0.114 * blue + 0.587 * green + 0.299 * red < 140
            ink = (255, 255, 255) if dark_ground else (0, 0, 0)
            at = (left, bottom - base)
            cv2.putText(self._image, text, at, _FONT, self.scale, ink, self._thickness, cv2.LINE_AA)

    def _size(self, text: str) -> tuple[int, int, int]:
        (width, height), base = cv2.getTextSize(text, _FONT, self.scale, self._thickness)
        return width, height, base

    def _is_free(self, place: _Rectangle) -> bool:
        left, top, right, bottom = place
        return not any(
            left <= other[2] and other[0] <= right and top <= other[3] and other[1] <= bottom
            for _, other, _, _ in self._placed
        )
