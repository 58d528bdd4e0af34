"""NanoDet: distributions to boxes, and heads told apart by their channels."""

import numpy as np
import pytest

from service.families.base import FamilyError
from service.families.nanodet import NanoDet
from service.model_spec import ModelSpec

CLIP = "intel_one-by-one-person-detection.mp4"


def decode_rows(outputs, side, threshold):
    """The published decode of 1xNxC scores and 1xNx32 distributions per stride."""
    parts = []
    for s in (8, 16, 32):
        score, dist = outputs[f"cls_pred_stride_{s}"][0], outputs[f"dis_pred_stride_{s}"][0]
        e = np.exp(dist.reshape(-1, 4, 8).astype(np.float64))
        away = (e / e.sum(2, keepdims=True)) @ np.arange(8) * s
        y, x = (np.indices((side // s, side // s)).reshape(2, -1) + 0.5) * s - 0.5
        boxes = np.stack([x - away[:, 0], y - away[:, 1], x + away[:, 2], y + away[:, 3]], 1)
        keep = score.max(1) > threshold
        parts.append((boxes[keep], score[keep].max(1), score[keep].argmax(1)))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def test_equals_the_decode_of_the_full_outputs(real_model, clip_frame):
    net = real_model("nanodet_m_320")
    x = net.tensor(clip_frame(CLIP, 260), (320, 320))
    spec = net.spec.model_copy(update={"min_confidence": 0.1})
    found = net.family.candidates(net.spatial(x), spec, (320, 320))
    boxes, score, class_id = decode_rows(net.full(x), 320, 0.1)
    assert len(found) > 20
    np.testing.assert_array_equal(found.class_id, class_id)
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    np.testing.assert_allclose(found.xyxy, boxes, rtol=1e-4, atol=1e-2)


def test_finds_the_same_person_at_another_size(real_model, clip_frame):
    net = real_model("nanodet_m_320")
    x = net.tensor(clip_frame(CLIP, 260), (640, 384))
    found = net.family.decode(net.spatial(x), net.spec, (640, 384))
    people = found.select(found.class_id == 0)
    assert people.score[0] > 0.4
    np.testing.assert_allclose(people.xyxy[0], [315, 2, 451, 330], atol=20)


def _heads(classes):
    scores, distances = np.zeros((1, classes, 2, 2), np.float32), np.zeros((1, 32, 2, 2), np.float32)
    scores[0, 3, 1, 0] = 0.9
    for side, bin_number in enumerate((1, 0, 2, 3)):
        distances[0, side * 8 + bin_number, 1, 0] = 50.0
    return {"one": scores, "two": distances} if classes == 32 else {"one": distances, "two": scores}


@pytest.mark.parametrize("classes", [5, 32, 80])
def test_one_cell_lands_where_the_formula_says(classes):
    spec = ModelSpec(family="nanodet", labels=tuple(map(str, range(classes))))
    found = NanoDet().decode(_heads(classes), spec, (16, 16))
    np.testing.assert_allclose(found.xyxy, [[3.5 - 8, 11.5, 3.5 + 16, 11.5 + 24]], atol=1e-4)
    assert found.class_id.tolist() == [3]


def test_refuses_heads_that_fit_no_class_count():
    heads = {"a": np.zeros((1, 7, 2, 2), np.float32), "b": np.zeros((1, 9, 2, 2), np.float32)}
    with pytest.raises(FamilyError, match=r"expected heads of .* 4 \* bins channels per stride, got \[7, 9\]"):
        NanoDet().decode(heads, ModelSpec(family="nanodet"), (16, 16))
