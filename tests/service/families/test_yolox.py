"""YOLOX: the decode from heads is that of the model's own output, at its own size and at others."""

import numpy as np
import pytest

from service.families.base import FamilyError
from service.families.yolox import YoloX
from service.model_spec import ModelSpec

CLIP = "intel_one-by-one-person-detection.mp4"


def decode_rows(rows, size, threshold):
    """The published decode of 1 x N x 85, row by row order."""
    grids = [(s, x, y) for s in (8, 16, 32) for y in range(size[1] // s) for x in range(size[0] // s)]
    s, gx, gy = np.array(grids, np.float32).T
    cx, cy = (rows[:, 0] + gx) * s, (rows[:, 1] + gy) * s
    w, h = np.exp(rows[:, 2]) * s, np.exp(rows[:, 3]) * s
    score = rows[:, 4] * rows[:, 5:].max(1)
    keep = score > threshold
    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    return boxes[keep], score[keep], rows[keep, 5:].argmax(1)


def test_equals_the_decode_of_the_full_output(real_model, clip_frame):
    net = real_model("yolox_nano")
    x = net.tensor(clip_frame(CLIP, 260), (416, 416))
    spec = net.spec.model_copy(update={"min_confidence": 0.01})
    found = net.family.candidates(net.spatial(x), spec, (416, 416))
    boxes, score, class_id = decode_rows(net.full(x)["output"][0], (416, 416), 0.01)
    assert len(found) > 50
    np.testing.assert_array_equal(found.class_id, class_id)
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    np.testing.assert_allclose(found.xyxy, boxes, rtol=1e-4, atol=1e-2)


def test_finds_the_same_person_at_another_size(real_model, clip_frame):
    net = real_model("yolox_nano")
    frame = clip_frame(CLIP, 260)
    found = net.family.decode(net.spatial(net.tensor(frame, (640, 384))), net.spec, (640, 384))
    assert found.class_id.tolist() == [0]
    assert found.score[0] > 0.8
    # 768x432 letterboxed to 640x384 is 640x360; the person stands right of the middle, head to foot.
    np.testing.assert_allclose(found.xyxy[0], [315, 2, 451, 310], atol=8)


def test_one_cell_lands_where_the_formula_says():
    head = np.zeros((1, 7, 4, 6), np.float32)
    head[0, :, 2, 3] = [0.5, 0.25, np.log(2), 0, 0.9, 0.1, 0.8]
    found = YoloX().decode({"head": head}, ModelSpec(family="yolox"), (48, 32))
    np.testing.assert_allclose(found.xyxy, [[28 - 8, 18 - 4, 28 + 8, 18 + 4]], rtol=1e-6)
    np.testing.assert_allclose(found.score, [0.72], rtol=1e-6)
    assert found.class_id.tolist() == [1]
    assert found.xyxy.dtype == found.score.dtype == np.float32
    assert found.class_id.dtype == np.int32


def test_refuses_what_is_no_head():
    spec = ModelSpec(family="yolox")
    with pytest.raises(FamilyError, match="expected spatial heads 1xCxHxW, got 'output' 1x3549x85"):
        YoloX().decode({"output": np.zeros((1, 3549, 85), np.float32)}, spec, (416, 416))
    with pytest.raises(FamilyError, match=r"got \[4\]"):
        YoloX().decode({"a": np.zeros((1, 4, 8, 8), np.float32)}, spec, (64, 64))
