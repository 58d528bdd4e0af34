"""Fits a frame to the network's input, and maps boxes back. Knows pixels only, no model and no tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.families.base import Detections, Size

Image = NDArray[np.uint8]

CODES = {
    (3, "RGB"): cv2.COLOR_BGR2RGB,
    (3, "GRAY"): cv2.COLOR_BGR2GRAY,
    (1, "BGR"): cv2.COLOR_GRAY2BGR,
    (1, "RGB"): cv2.COLOR_GRAY2RGB,
    (4, "BGR"): cv2.COLOR_BGRA2BGR,
    (4, "RGB"): cv2.COLOR_BGRA2RGB,
    (4, "GRAY"): cv2.COLOR_BGRA2GRAY,
}

_MULTIPLES = 2
"""Of a size, to which a frame is brought on its way there; beyond it that takes as long as areas of parts of pixels."""


class FitRule(Protocol):
    """The part of a specification that decides how a frame becomes the network's input."""

    @property
    def fit(self) -> str: ...

    @property
    def colour(self) -> str: ...

    @property
    def pad_value(self) -> int: ...


@dataclass(frozen=True)
class Placement:
    """Where a frame lies in the plan's input: plan = frame * scale + offset, per axis, in pixels.

    frame_size : width and height of the frame
    """

    frame_size: Size
    scale: tuple[float, float]
    offset: tuple[float, float]

    def boxes_to_frame(self, xyxy: NDArray[Any]) -> NDArray[np.float32]:
        """float32[N, 4] in frame pixels, clipped to the frame, of boxes in plan pixels."""
        offset = np.asarray(self.offset * 2, np.float32)
        boxes = (xyxy - offset) / np.asarray(self.scale * 2, np.float32)
        return np.clip(boxes, 0, np.asarray(self.frame_size * 2)).astype(np.float32)

    def points_to_frame(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """float32[..., 2 or more] in frame pixels; values behind x and y stay. Not clipped."""
        moved = np.array(points, np.float32)
        offset = np.asarray(self.offset, np.float32)
        moved[..., :2] = (moved[..., :2] - offset) / np.asarray(self.scale, np.float32)
        return moved

    def detections_to_frame(self, found: Detections) -> Detections:
        """The same detections in frame pixels."""
        points = None if found.keypoints is None else self.points_to_frame(found.keypoints)
        return replace(found, xyxy=self.boxes_to_frame(found.xyxy), keypoints=points)


def fit(frame: Image, size: Size, spec: FitRule) -> tuple[Image, Placement]:
    """Bring a frame to plan size and the plan's colour order.

    frame : uint8[H, W, 3] BGR, [H, W, 4] BGRA, or [H, W] grey
    size : width and height of the plan's input in pixels
    Returns uint8[h, w, C], C-contiguous (the frame itself if there is nothing to do), and its Placement.
    Raises ValueError for another dtype or shape.
    """
    channels = frame.shape[2] if frame.ndim == 3 else 1
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or channels not in (1, 3, 4) or not frame.size:
        raise ValueError(f"expected a frame uint8[H, W, 3], got {frame.dtype}{list(frame.shape)}")
    inner, placement = _place((frame.shape[1], frame.shape[0]), size, spec.fit)
    image = _crop(frame, size, placement) if spec.fit == "crop_centre" else frame
    image = _colour(resize(image, inner), channels, spec.colour)
    if inner != size:
        left, top = (int(v) for v in placement.offset)
        canvas = np.full((size[1], size[0], image.shape[2]), spec.pad_value, np.uint8)
        canvas[top : top + inner[1], left : left + inner[0]] = image
        image = canvas
    return np.ascontiguousarray(image), placement


def resize(image: Image, size: Size) -> Image:
    """Resize to (W, H): area averaging where it shrinks, bilinear otherwise; no copy if it fits already.

    Areas that are not of whole pixels take several times as long as decoding such a frame; up to 2.5 times the size it
    is brought to the nearest multiple of it first, bilinear, and the areas of that are whole.
    """
    height, width = image.shape[:2]
    multiples = [max(1, round(have / want)) for have, want in zip((width, height), size, strict=True)]
    if max(multiples) <= _MULTIPLES:
        between = (size[0] * multiples[0], size[1] * multiples[1])
        if between != (width, height):
            image = np.asarray(cv2.resize(image, between, interpolation=cv2.INTER_LINEAR), np.uint8)
    if image.shape[1::-1] != size:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def _place(frame: Size, size: Size, how: str) -> tuple[Size, Placement]:
    """Size of the resized frame inside the input, and the Placement that goes with it."""
    ratios = (size[0] / frame[0], size[1] / frame[1])
    if how == "stretch":
        return size, Placement(frame, ratios, (0.0, 0.0))
    if how == "crop_centre":
        ratio = max(ratios)
        offset = ((size[0] - frame[0] * ratio) / 2, (size[1] - frame[1] * ratio) / 2)
        return size, Placement(frame, (ratio, ratio), offset)
    if how not in ("letterbox", "letterbox_centre"):
        raise ValueError(f"expected letterbox, letterbox_centre, stretch or crop_centre, got {how!r}")
    ratio = min(ratios)
    inner = (
        max(1, min(size[0], round(frame[0] * ratio))),
        max(1, min(size[1], round(frame[1] * ratio))),
    )
    left, top = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2) if how == "letterbox_centre" else (0, 0)
    scale = (inner[0] / frame[0], inner[1] / frame[1])
    return inner, Placement(frame, scale, (float(left), float(top)))


def _crop(frame: Image, size: Size, placement: Placement) -> Image:
    """The centre of the frame that fills the input; whole source pixels, at least one."""
    height, width = frame.shape[:2]
    keep_w = max(1, min(width, round(size[0] / placement.scale[0])))
    keep_h = max(1, min(height, round(size[1] / placement.scale[1])))
    left, top = (width - keep_w) // 2, (height - keep_h) // 2
    return frame[top : top + keep_h, left : left + keep_w]


def _colour(image: Image, channels: int, colour: str) -> Image:
    """The image in another channel order, always [H, W, C]."""
    code = CODES.get((channels, colour))
    converted: Image = image if code is None else cv2.cvtColor(image, code)
    return converted[:, :, None] if converted.ndim == 2 else converted
