"""NMS against a plain loop, and box overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.nms import iou_matrix, nms


def plain_iou(a, b):
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = w * h
    return both / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both, 1e-9)


def plain_nms(boxes, score, class_id, limit):
    kept = []
    for i in sorted(range(len(score)), key=lambda i: -score[i]):
        if all(class_id[i] != class_id[k] or plain_iou(boxes[k], boxes[i]) < limit for k in kept):
            kept.append(i)
    return kept


@given(st.integers(0, 40), st.sampled_from([0.3, 0.45, 0.6]), st.integers(0, 2**16))
def test_equals_the_plain_loop(count, limit, seed):
    rng = np.random.default_rng(seed)
    # Whole pixels, and a limit that no overlap of them meets exactly: float32 and float64 decide alike.
    corner = rng.integers(0, 24, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 16, (count, 2))], 1).astype(np.float32)
    score = (rng.integers(0, 20, count) / 20).astype(np.float32)
    class_id = rng.integers(0, 3, count).astype(np.int32)
    kept = nms(boxes, score, class_id, limit + 1e-4)
    assert kept.tolist() == plain_nms(boxes.tolist(), score.tolist(), class_id.tolist(), limit + 1e-4)


def test_classes_do_not_suppress_each_other_unless_asked_to():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 11]], np.float32)
    score, class_id = np.array([0.5, 0.9], np.float32), np.array([0, 1], np.int32)
    assert nms(boxes, score, class_id, 0.45).tolist() == [1, 0]
    assert nms(boxes, score, class_id, 0.45, class_agnostic=True).tolist() == [1]


def test_equal_scores_keep_their_order():
    boxes = np.array([[0, 0, 4, 4], [20, 0, 24, 4], [40, 0, 44, 4]], np.float32)
    assert nms(boxes, np.full(3, 0.5, np.float32), np.zeros(3, np.int32), 0.45).tolist() == [0, 1, 2]


def test_work_is_bounded_when_everything_fires():
    x = np.arange(6000, dtype=np.float32) * 10
    boxes = np.stack([x, x * 0, x + 4, x * 0 + 4], 1)
    assert len(nms(boxes, np.linspace(0, 1, 6000), np.zeros(6000, np.int32), 0.45)) == 4096


def test_overlap_of_known_boxes():
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [30, 30, 40, 40]], np.float32)
    assert iou_matrix(a, b)[0] == pytest.approx([1 / 3, 1.0, 0.0])
    assert iou_matrix(a, b)[1].tolist() == [0.0, 0.0, 0.0]
    assert iou_matrix(a[:0], b).shape == (0, 3)
