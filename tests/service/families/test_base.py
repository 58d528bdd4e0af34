"""What the families share: heads grouped by size, numerics, results."""

from dataclasses import dataclass

import numpy as np
import pytest

from service.families.base import (
    Classification,
    Detections,
    FamilyError,
    Mask,
    boxes_of,
    exp,
    gather,
    sigmoid,
    softmax,
)
from service.families.yunet import YuNet


@dataclass
class PlainHead:
    tensor: str
    post: tuple[str, ...] = ()


def test_heads_are_grouped_by_size_and_sorted_by_channels():
    family = YuNet()
    family.use_heads([PlainHead("a"), PlainHead("b", ("Sigmoid",)), PlainHead("c")])
    outputs = {
        "a": np.zeros((1, 4, 2, 4), np.float32),
        "b": np.zeros((1, 1, 4, 8), np.float32),
        "c": np.zeros((1, 1, 2, 4), np.float32),
        "other": np.zeros((1, 9), np.float32),
    }
    large, small = family.levels(outputs, (64, 32))
    assert (large.width, large.height, large.stride) == (8, 4, 8)
    assert (small.width, small.height, small.stride) == (4, 2, 16)
    assert [head.channels for head in small.heads] == [1, 4]
    assert large.heads[0].probabilities().tolist() == [[0.5] * 32]
    assert small.heads[0].probabilities().tolist() == [[0.0] * 8]
    column, row = small.cells(np.array([0, 5]))
    assert (column.tolist(), row.tolist()) == ([0, 1], [0, 1])


def test_a_head_that_is_missing_is_named():
    family = YuNet()
    family.use_heads([PlainHead("cls")])
    with pytest.raises(FamilyError, match="yunet: expected head 'cls', got a, b"):
        family.levels({"a": np.zeros(1), "b": np.zeros(1)}, (32, 32))
    with pytest.raises(FamilyError, match="yunet: expected spatial output tensors, found none"):
        family.use_heads([])


def test_numerics_do_not_overflow():
    extremes = np.array([-1e4, -5.0, 0.0, 5.0, 1e4], np.float32)
    assert sigmoid(extremes).dtype == softmax(extremes, 0).dtype == exp(extremes).dtype == np.float32
    np.testing.assert_allclose(sigmoid(extremes), [0, 0.00669285, 0.5, 0.99330715, 1], atol=1e-7)
    assert softmax(extremes, 0).tolist() == [0, 0, 0, 0, 1]
    assert np.isfinite(exp(extremes)).all()


def found(count, points=None):
    zeros = np.zeros((count, 4), np.float32)
    return Detections(zeros, np.arange(count, dtype=np.float32), np.zeros(count, np.int32), points)


def test_detections_select_and_gather():
    points = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    both = gather([found(2, points), found(2, points)])
    assert len(both) == 4
    assert both.select(both.score > 0).keypoints.shape == (2, 1, 3)
    assert gather([found(2, points), found(1)]).keypoints is None
    assert len(gather([])) == len(Detections.empty()) == 0


def test_boxes_of_each_result():
    regions = found(3)
    assert boxes_of(regions) is regions
    assert boxes_of(Mask(np.zeros((2, 2), np.int32), np.zeros((2, 2), np.float32), regions)) is regions
    assert len(boxes_of(Classification(np.zeros(1, np.int32), np.ones(1, np.float32)))) == 0
