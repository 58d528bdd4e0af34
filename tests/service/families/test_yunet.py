"""YuNet: boxes and key points, with the Sigmoid that stands behind the heads."""

import numpy as np
import pytest

from service.families.base import FamilyError
from service.families.yunet import YuNet
from service.model_spec import ModelSpec

CLIP = "intel_asl_walk.mkv"


def decode_rows(outputs, side, threshold):
    """The published decode of cls, obj, bbox and kps rows per stride."""
    parts = []
    for s in (8, 16, 32):
        cls, obj, box, kps = (outputs[f"{name}_{s}"][0] for name in ("cls", "obj", "bbox", "kps"))
        gy, gx = np.indices((side // s, side // s)).reshape(2, -1)
        score = np.sqrt(cls[:, 0] * obj[:, 0])
        cx, cy = (gx + box[:, 0]) * s, (gy + box[:, 1]) * s
        w, h = np.exp(box[:, 2]) * s, np.exp(box[:, 3]) * s
        points = (kps.reshape(-1, 5, 2) + np.stack([gx, gy], 1)[:, None]) * s
        keep = score > threshold
        boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        parts.append((boxes[keep], score[keep], points[keep]))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


@pytest.mark.parametrize("side", [320, 640])
def test_equals_the_decode_of_the_full_outputs(real_model, clip_frame, side):
    net = real_model(f"yunet_n_{side}_{side}")
    x = net.tensor(clip_frame(CLIP, 30), (side, side))
    spec = net.spec.model_copy(update={"min_confidence": 0.02})
    found = net.family.candidates(net.spatial(x), spec, (side, side))
    boxes, score, points = decode_rows(net.full(x), side, 0.02)
    assert len(found) > 5
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    np.testing.assert_allclose(found.xyxy, boxes, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found.keypoints[:, :, :2], points, rtol=1e-4, atol=1e-2)


def test_finds_the_same_face_at_another_size(real_model, clip_frame):
    net = real_model("yunet_n_640_640")
    frame = clip_frame(CLIP, 30)
    square = net.family.decode(net.spatial(net.tensor(frame, (640, 640))), net.spec, (640, 640))
    wide = net.family.decode(net.spatial(net.tensor(frame, (640, 384))), net.spec, (640, 384))
    assert len(square) == len(wide) == 1
    assert wide.score[0] > 0.7
    # 640x480 fits 640x640 unscaled and 640x384 at 0.8.
    np.testing.assert_allclose(wide.xyxy / 0.8, square.xyxy, atol=8)
    x, y = wide.keypoints[0, :, 0], wide.keypoints[0, :, 1]
    left, top, right, bottom = wide.xyxy[0]
    assert ((x > left) & (x < right) & (y > top) & (y < bottom)).all()


def test_refuses_other_channels():
    heads = {name: np.zeros((1, c, 4, 4), np.float32) for name, c in (("a", 1), ("b", 4), ("c", 10))}
    with pytest.raises(FamilyError, match=r"expected heads of 1, 1, 4 and 10 channels per stride, got \[1, 4, 10\]"):
        YuNet().decode(heads, ModelSpec(family="yunet"), (32, 32))
