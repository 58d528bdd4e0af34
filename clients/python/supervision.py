"""Results as `supervision` has them: boxes and masks as `sv.Detections`, keypoints as `sv.KeyPoints`.

Needs the extra `supervision`; importing this file does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..wire import Detection, Mask, Result
from .core import FrameResult

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv
    from numpy.typing import NDArray

MAX_PIXELS = 1 << 26
MISSING = "expected the package supervision: pip install 'afterimage-client[supervision]'"


def to_supervision(result: FrameResult | Result) -> sv.Detections:
    """The boxes of a result, with their masks where it has masks; masks alone, where it has no boxes.

    xyxy : float32[N, 4], pixels of the frame as sent; of a mask alone, its extent
    confidence : float32[N]; 1 for a mask alone
    class_id : int[N]; `data["class_name"]` : str[N]
    tracker_id : int[N], where any object has a number; -1 for those that have none yet
    mask : bool[N, height, width] of the frame: of a box, its class's mask within the box
    ImportError without the extra.
    """
    sv, np = _packages()
    found = result.result if isinstance(result, FrameResult) else result
    detections = found.detections or ()
    if not detections and found.masks:
        return _masks_alone(sv, np, found, found.masks)
    if not detections:
        return sv.Detections.empty()
    tracks = [-1 if one.track_id is None else one.track_id for one in detections]
    return sv.Detections(
        xyxy=np.array([one.xyxy for one in detections], np.float32),
        mask=_masks_of(np, found, detections) if found.masks is not None else None,
        confidence=np.array([one.score for one in detections], np.float32),
        class_id=np.array([one.class_id for one in detections], int),
        tracker_id=np.array(tracks, int) if any(track >= 0 for track in tracks) else None,
        data={"class_name": np.array([one.label for one in detections])},
    )


def to_keypoints(result: FrameResult | Result) -> sv.KeyPoints:
    """The keypoints of a result's detections, of those that have as many as the first that has any.

    xy : float32[N, K, 2], pixels of the frame as sent; confidence : float32[N, K], the visibility; class_id and
    `data["class_name"]` as of `to_supervision`. ImportError without the extra.
    """
    sv, np = _packages()
    found = result.result if isinstance(result, FrameResult) else result
    posed = [(one, one.keypoints) for one in found.detections or () if one.keypoints]
    posed = [(one, points) for one, points in posed if len(points) == len(posed[0][1])]
    if not posed:
        return sv.KeyPoints.empty()
    points = np.array([points for _, points in posed], np.float32)
    confidence = "keypoint_confidence" if "keypoint_confidence" in sv.KeyPoints.__dataclass_fields__ else "confidence"
    return sv.KeyPoints(
        xy=points[:, :, :2],
        class_id=np.array([one.class_id for one, _ in posed], int),
        data={"class_name": np.array([one.label for one, _ in posed])},
        **{confidence: points[:, :, 2]},
    )


def mask_pixels(mask: Mask, width: int, height: int) -> NDArray[np.bool_]:
    """A mask at the size of its frame: bool[height, width], each pixel that of the grid's cell that its centre lies in.

    ValueError for run lengths that do not add up to the grid, and above `MAX_PIXELS`.
    """
    import numpy as np

    rows, columns = mask.size
    if rows * columns > MAX_PIXELS or width * height > MAX_PIXELS:
        raise ValueError(
            f"expected a grid and a frame of at most {MAX_PIXELS} pixels, got {mask.size}, {width} x {height}"
        )
    if sum(mask.counts) != rows * columns:
        raise ValueError(f"expected run lengths of {rows} x {columns} cells, got {sum(mask.counts)}")
    runs = np.arange(len(mask.counts)) % 2 == 1
    grid = np.repeat(runs, mask.counts).reshape(rows, columns)
    left, top, right, bottom = mask.xyxy
    pixels = np.zeros((height, width), bool)
    if not grid.size or not (right > left and bottom > top):
        return pixels
    row = np.floor((np.arange(height) + 0.5 - top) * (rows / (bottom - top))).astype(int)
    column = np.floor((np.arange(width) + 0.5 - left) * (columns / (right - left))).astype(int)
    seen_rows, seen_columns = (row >= 0) & (row < rows), (column >= 0) & (column < columns)
    pixels[np.ix_(seen_rows, seen_columns)] = grid[np.ix_(row[seen_rows], column[seen_columns])]
    return pixels


def _masks_of(np: Any, found: Result, detections: tuple[Detection, ...]) -> NDArray[np.bool_]:
    classes = {mask.class_id: mask_pixels(mask, found.width, found.height) for mask in found.masks or ()}
    pixels: NDArray[np.bool_] = np.zeros((len(detections), found.height, found.width), bool)
    for mine, one in zip(pixels, detections, strict=True):
        left, top, right, bottom = (max(0, round(edge)) for edge in one.xyxy)
        if one.class_id in classes:
            mine[top:bottom, left:right] = classes[one.class_id][top:bottom, left:right]
    return pixels


def _masks_alone(sv: Any, np: Any, found: Result, masks: tuple[Mask, ...]) -> sv.Detections:
    drawn = [(mask, mask_pixels(mask, found.width, found.height)) for mask in masks]
    drawn = [(mask, pixels) for mask, pixels in drawn if pixels.any()]
    if not drawn:
        return sv.Detections.empty()
    stack = np.stack([pixels for _, pixels in drawn])
    return sv.Detections(
        xyxy=np.array([_extent(np, pixels) for pixels in stack], np.float32),
        mask=stack,
        confidence=np.ones(len(drawn), np.float32),
        class_id=np.array([mask.class_id for mask, _ in drawn], int),
        data={"class_name": np.array([mask.label for mask, _ in drawn])},
    )


def _extent(np: Any, pixels: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is set, the last two exclusive."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _packages() -> tuple[Any, Any]:
    try:
        import numpy
        import supervision
    except ImportError as error:
        raise ImportError(MISSING) from error
    return supervision, numpy
