"""Ultralytics layouts: with and without objectness, finished boxes, key points, extra channels."""

import numpy as np
import pytest

from service.families.base import FamilyError
from service.families.ultralytics import Ultralytics
from service.model_spec import ModelSpec

SIZE = (64, 64)
# cx, cy, w, h; the second overlaps the first, the third stands apart.
BOXES = np.array([[20, 20, 16, 16], [21, 20, 16, 16], [50, 40, 8, 20], [8, 50, 6, 6]], np.float32)
CORNERS = [[12, 12, 28, 28], [46, 30, 54, 50]]
SCORES = np.array([[0.9, 0.1], [0.6, 0.2], [0.1, 0.7], [0.1, 0.1]], np.float32)


def spec(**fields):
    return ModelSpec(family="ultralytics", labels=("a", "b"), **fields)


def table(*columns, rows=40):
    """Rows of the columns, filled up with boxes of no score."""
    values = np.concatenate(columns, axis=1)
    return np.concatenate([values, np.zeros((rows - len(values), values.shape[1]), np.float32)])


def check(found):
    np.testing.assert_allclose(found.xyxy, CORNERS, atol=1e-5)
    assert found.class_id.tolist() == [0, 1]


@pytest.mark.parametrize("extra", [0, 32])
@pytest.mark.parametrize("layout", ["auto", "v8"])
def test_v8_is_columns_without_objectness(layout, extra):
    values = table(BOXES, SCORES, np.full((4, extra), 9, np.float32)).T[None]
    found = Ultralytics().decode({"output0": values}, spec(layout=layout), SIZE)
    check(found)
    np.testing.assert_allclose(found.score, [0.9, 0.7])


@pytest.mark.parametrize("extra", [0, 32])
@pytest.mark.parametrize("layout", ["auto", "v5"])
def test_v5_is_rows_with_objectness(layout, extra):
    objectness = np.array([[0.5], [1.0], [1.0], [1.0]], np.float32)
    values = table(BOXES, objectness, SCORES, np.full((4, extra), 9, np.float32))[None]
    found = Ultralytics().decode({"output": values}, spec(layout=layout, min_confidence=0.3), SIZE)
    # 0.5 * 0.9 < 1 * 0.6, so the second box wins over the first here, and the third is best.
    np.testing.assert_allclose(found.score, [0.7, 0.6])
    np.testing.assert_allclose(found.xyxy[1], [13, 12, 29, 28])


def test_end_to_end_boxes_are_left_as_they_are():
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [1, 2, 30, 40, 0.5, 1]
    rows[0, 1] = [1, 2, 30, 41, 0.8, 1]
    found = Ultralytics().decode({"output0": rows}, spec(), SIZE)
    np.testing.assert_allclose(found.xyxy, [[1, 2, 30, 41], [1, 2, 30, 40]])
    assert found.class_id.tolist() == [1, 1]


def test_pose_key_points_come_along():
    points = np.arange(4 * 6, dtype=np.float32).reshape(4, 6)
    values = table(BOXES, SCORES[:, :1], points).T[None]
    pose = ModelSpec(family="ultralytics", labels=("person",), layout="v8", keypoint_shape=(2, 3))
    found = Ultralytics().decode({"output0": values}, pose, SIZE)
    assert found.keypoints.shape == (1, 2, 3)
    np.testing.assert_allclose(found.keypoints[0].reshape(-1), points[0])


def test_mask_prototypes_beside_the_boxes_are_passed_over():
    outputs = {
        "protos": np.zeros((1, 32, 16, 16), np.float32),
        "boxes": table(BOXES, SCORES, np.zeros((4, 32), np.float32)).T[None],
    }
    check(Ultralytics().decode(outputs, spec(layout="v8"), SIZE))


def test_refuses_tensors_that_hold_no_boxes():
    with pytest.raises(FamilyError, match="expected an output of three dimensions, got x 1x4"):
        Ultralytics().decode({"x": np.zeros((1, 4), np.float32)}, spec(), SIZE)
    with pytest.raises(FamilyError, match="v8: expected at least 6 values a box, got 'x' 1x5x100"):
        Ultralytics().decode({"x": np.zeros((1, 5, 100), np.float32)}, spec(layout="v8"), SIZE)
