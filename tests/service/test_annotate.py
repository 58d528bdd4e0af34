"""Drawing: where it draws, what it leaves alone, and that odd results do not break it."""

from __future__ import annotations

import numpy as np
import pytest

from clients.wire import ClassScore, Detection
from service.annotate import annotate, colour_of


def test_a_box_is_drawn_on_a_copy_in_its_colour() -> None:
    frame = np.zeros((120, 160, 3), np.uint8)
    drawn = annotate(frame, [Detection(xyxy=(40, 50, 120, 100), score=0.9, class_id=3, label="cat")])
    assert not frame.any()
    assert tuple(drawn[100, 80]) == colour_of(3)
    assert tuple(drawn[75, 120]) == colour_of(3)
    assert not drawn[70:90, 60:100].any(), "the inside stays as it was"
    assert drawn[30:50, 40:60].any(), "the caption stands on the box"


def test_nothing_to_draw() -> None:
    frame = np.full((10, 10, 3), 9, np.uint8)
    assert np.array_equal(annotate(frame), frame)
    assert annotate(frame) is not frame


def test_keypoints_classes_and_labels_beyond_ascii() -> None:
    frame = np.zeros((200, 200, 3), np.uint8)
    points = ((100.0, 150.0, 1.0), (20.0, 190.0, 0.0))
    drawn = annotate(
        frame,
        [Detection(xyxy=(50, 50, 150, 180), score=1, class_id=0, label="Füße 🚋", keypoints=points)],
        [ClassScore(class_id=1, label="tabby", score=0.5)],
    )
    assert tuple(drawn[150, 100]) == colour_of(0)
    assert not drawn[190, 20].any(), "an invisible point is not drawn"
    assert drawn[:20, :20].any()


@pytest.mark.parametrize("box", [(-50, -50, 500, 500), (0, 0, 0, 0), (9, 9, 1, 1), (1e6, 0, 2e6, 5)])
def test_boxes_outside_and_tiny_images(box: tuple) -> None:
    for shape in ((1, 1, 3), (8, 300, 3)):
        frame = np.zeros(shape, np.uint8)
        assert annotate(frame, [Detection(xyxy=box, score=1, class_id=7, label="x" * 80)]).shape == shape


def test_colours_are_steady_and_apart() -> None:
    assert colour_of(5) == colour_of(5)
    assert len({colour_of(class_id) for class_id in range(80)}) == 80


def test_wrong_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        annotate(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        annotate(np.zeros((5, 5, 3), np.float32))
