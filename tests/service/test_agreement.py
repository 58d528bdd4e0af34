"""The agreement measure on cases counted by hand."""

import numpy as np
import pytest

from service.agreement import Agreement, matched
from service.families.base import Detections


def boxes(*rows):
    """Rows of x, y, side, score, class."""
    t = np.array(rows, np.float32).reshape(-1, 5)
    xyxy = np.stack([t[:, 0], t[:, 1], t[:, 0] + t[:, 2], t[:, 1] + t[:, 2]], 1)
    return Detections(xyxy, t[:, 3], t[:, 4].astype(np.int32))


def figures(one, other):
    count = Agreement()
    count.add(one, other)
    return count.figures()


def test_the_same_boxes_agree_fully():
    same = boxes((0, 0, 10, 0.9, 0), (50, 0, 10, 0.5, 1))
    assert figures(same, same) == {"iou50": 1.0, "iou75": 1.0}


def test_a_strong_box_may_be_met_by_a_weak_one():
    assert figures(boxes((0, 0, 10, 0.45, 0)), boxes((0, 0, 10, 0.3, 0))) == {"iou50": 1.0, "iou75": 1.0}
    assert figures(boxes((0, 0, 10, 0.45, 0)), boxes((0, 0, 10, 0.2, 0))) == {"iou50": 0.0, "iou75": 0.0}


def test_overlap_decides_per_threshold():
    # Shifted by 2 of 10: 80 / 120 = 0.67.
    assert figures(boxes((0, 0, 10, 0.9, 0)), boxes((2, 0, 10, 0.9, 0))) == {"iou50": 1.0, "iou75": 0.0}


def test_another_class_does_not_count():
    assert figures(boxes((0, 0, 10, 0.9, 0)), boxes((0, 0, 10, 0.9, 1))) == {"iou50": 0.0, "iou75": 0.0}


def test_a_partner_serves_once():
    assert matched(boxes((0, 0, 10, 0.9, 0), (0, 0, 10, 0.8, 0)), boxes((0, 0, 10, 0.9, 0)), 0.5) == 1


def test_frames_add_up_over_both_directions():
    count = Agreement()
    count.add(boxes((0, 0, 10, 0.9, 0), (50, 0, 10, 0.9, 0)), boxes((0, 0, 10, 0.9, 0)))
    count.add(boxes(), boxes())
    assert count.total == 3
    assert count.figures() == {"iou50": pytest.approx(2 / 3), "iou75": pytest.approx(2 / 3)}


def test_no_strong_box_gives_no_figure():
    assert figures(boxes((0, 0, 10, 0.4, 0)), boxes((90, 0, 10, 0.39, 0))) is None
