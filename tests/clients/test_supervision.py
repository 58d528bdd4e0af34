"""Results as the installed supervision takes them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from clients.python import FrameResult
from clients.python.supervision import mask_pixels, to_keypoints, to_supervision
from clients.wire import Detection, Mask, Result, vectors

BARE = replace(vectors.SERVER_MESSAGES["result_boxes"], width=8, height=6, detections=None)
BOX = Detection(xyxy=(1.0, 2.0, 5.25, 6.0), score=0.5, class_id=7, label="cup")


def found(**fields: Any) -> Result:
    return replace(BARE, **fields)


@pytest.fixture
def sv() -> Any:
    return pytest.importorskip("supervision")


def test_boxes(sv: Any) -> None:
    other = Detection(xyxy=(0.0, 0.0, 1.0, 1.0), score=0.25, class_id=1, label="a person", track_id=3)
    detections = to_supervision(FrameResult(1, found(detections=(BOX, other)), 1.0))
    assert isinstance(detections, sv.Detections)
    assert detections.xyxy.dtype == np.float32
    assert detections.confidence.dtype == np.float32
    np.testing.assert_array_equal(detections.xyxy, [[1, 2, 5.25, 6], [0, 0, 1, 1]])
    assert detections.confidence.tolist() == [0.5, 0.25]
    assert detections.class_id.tolist() == [7, 1]
    assert detections.tracker_id.tolist() == [-1, 3]
    assert detections.data["class_name"].tolist() == ["cup", "a person"]
    assert detections.mask is None
    assert len(detections[detections.class_id == 7]) == 1


def test_nothing_found_and_nothing_tracked(sv: Any) -> None:
    assert len(to_supervision(found(detections=()))) == 0
    assert len(to_supervision(BARE)) == 0
    assert len(to_supervision(found(masks=()))) == 0
    assert to_supervision(found(detections=(BOX,))).tracker_id is None
    assert len(to_keypoints(found(detections=(BOX,)))) == 0


def test_masks_alone(sv: Any) -> None:
    left = Mask(class_id=1, label="floor", size=(3, 4), counts=(0, 2, 2, 2, 2, 2, 2), xyxy=(0.0, 0.0, 8.0, 6.0))
    outside = Mask(class_id=2, label="sky", size=(1, 2), counts=(1, 1), xyxy=(0.0, 0.0, 16.0, 6.0))
    detections = to_supervision(found(masks=(left, outside)))
    assert detections.mask.shape == (1, 6, 8)
    assert detections.mask.dtype == bool
    assert detections.mask[0, :, :4].all()
    assert not detections.mask[0, :, 4:].any()
    assert detections.xyxy.tolist() == [[0, 0, 4, 6]]
    assert (detections.class_id.tolist(), detections.data["class_name"].tolist()) == ([1], ["floor"])


def test_boxes_have_their_part_of_their_classes_mask(sv: Any) -> None:
    whole = Mask(class_id=7, label="cup", size=(1, 1), counts=(0, 1), xyxy=(0.0, 0.0, 8.0, 6.0))
    other = Detection(xyxy=(0.0, 0.0, 8.0, 6.0), score=0.5, class_id=9, label="none")
    detections = to_supervision(found(detections=(BOX, other), masks=(whole,)))
    expected = np.zeros((6, 8), bool)
    expected[2:6, 1:5] = True
    np.testing.assert_array_equal(detections.mask[0], expected)
    assert not detections.mask[1].any()


def test_the_golden_mask(sv: Any) -> None:
    result = next(one for one in vectors.SERVER_MESSAGES.values() if isinstance(one, Result) and one.masks)
    detections = to_supervision(result)
    assert detections.mask.shape[1:] == (result.height, result.width)


def test_a_mask_lies_where_its_grid_lies() -> None:
    """A grid that reaches beyond the frame on every side, as of padded input: each pixel against the definition."""
    rng = np.random.default_rng(5)
    grid = rng.random((5, 7)) < 0.5
    ends = np.flatnonzero(np.diff(grid.ravel().astype(int))) + 1
    counts = np.diff([0, *ends, grid.size]).tolist()
    counts = [0, *counts] if grid[0, 0] else counts
    box = (-3.0, -1.5, 24.5, 13.0)
    pixels = mask_pixels(Mask(class_id=0, label="x", size=(5, 7), counts=tuple(counts), xyxy=box), 20, 11)
    for y in range(11):
        for x in range(20):
            row, column = int((y + 0.5 + 1.5) / 14.5 * 5), int((x + 0.5 + 3.0) / 27.5 * 7)
            assert pixels[y, x] == grid[row, column]


def test_run_lengths_that_do_not_fit_and_boxes_without_an_inside() -> None:
    with pytest.raises(ValueError, match="of 2 x 2 cells, got 3"):
        mask_pixels(Mask(class_id=0, label="x", size=(2, 2), counts=(3,), xyxy=(0.0, 0.0, 1.0, 1.0)), 4, 4)
    with pytest.raises(ValueError, match="at most 67108864 pixels"):
        mask_pixels(Mask(class_id=0, label="x", size=(1 << 30, 1), counts=(1 << 30,), xyxy=(0.0, 0.0, 1.0, 1.0)), 4, 4)
    flat = Mask(class_id=0, label="x", size=(1, 1), counts=(0, 1), xyxy=(2.0, 0.0, 2.0, 4.0))
    assert not mask_pixels(flat, 4, 4).any()


def test_keypoints(sv: Any) -> None:
    points = ((1.0, 2.0, 0.5), (3.0, 4.0, 1.0))
    face = Detection(xyxy=(0.0, 0.0, 4.0, 4.0), score=0.5, class_id=2, label="face", keypoints=points)
    odd = Detection(xyxy=(0.0, 0.0, 4.0, 4.0), score=0.5, class_id=2, label="face", keypoints=points[:1])
    keypoints = to_keypoints(found(detections=(BOX, face, odd)))
    assert isinstance(keypoints, sv.KeyPoints)
    assert keypoints.xy.tolist() == [[[1, 2], [3, 4]]]
    assert keypoints.keypoint_confidence.tolist() == [[0.5, 1.0]]
    assert (keypoints.class_id.tolist(), keypoints.data["class_name"].tolist()) == ([2], ["face"])


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    for convert in (to_supervision, to_keypoints):
        with pytest.raises(ImportError, match=r"pip install 'afterimage-client\[supervision\]'"):
            convert(BARE)
