"""FastestDet: one grid, whole or in its three parts."""

import numpy as np
import pytest

from service.families.base import FamilyError
from service.families.fastestdet import FastestDet
from service.model_spec import ModelSpec

CLIP = "intel_one-by-one-person-detection.mp4"


def decode_grid(out, size, threshold):
    """The published decode of 85 x h x w, cell by cell."""
    _, h, w = out.shape
    boxes, scores, classes = [], [], []
    for gy in range(h):
        for gx in range(w):
            t = out[:, gy, gx].astype(np.float64)
            score = t[0] ** 0.6 * t[5:].max() ** 0.4
            if score > threshold:
                cx, cy = (gx + np.tanh(t[1])) / w, (gy + np.tanh(t[2])) / h
                bw, bh = 1 / (1 + np.exp(-t[3])), 1 / (1 + np.exp(-t[4]))
                boxes.append([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2])
                scores.append(score)
                classes.append(int(t[5:].argmax()))
    return np.array(boxes) * [*size, *size], np.array(scores), classes


def test_equals_the_decode_of_the_full_output(real_model, clip_frame):
    net = real_model("FastestDet")
    x = net.tensor(clip_frame(CLIP, 260), (352, 352))
    spec = net.spec.model_copy(update={"min_confidence": 0.1})
    found = net.family.candidates(net.spatial(x), spec, (352, 352))
    boxes, score, class_id = decode_grid(net.full(x)["758"][0], (352, 352), 0.1)
    assert len(found) > 20
    assert found.class_id.tolist() == class_id
    np.testing.assert_allclose(found.score, score, rtol=1e-4)
    np.testing.assert_allclose(found.xyxy, boxes, rtol=1e-4, atol=1e-2)


def test_finds_the_same_person_at_another_size(real_model, clip_frame):
    net = real_model("FastestDet")
    x = net.tensor(clip_frame(CLIP, 260), (640, 384))
    found = net.family.decode(net.spatial(x), net.spec, (640, 384))
    people = found.select(found.class_id == 0)
    assert people.score[0] > 0.7
    np.testing.assert_allclose(people.xyxy[0], [315, 2, 451, 330], atol=20)


class PartHead:
    def __init__(self, tensor, post):
        self.tensor, self.post = tensor, post


def test_three_parts_give_what_the_joined_head_gives():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, 12, 3, 5)).astype(np.float32) * 3
    obj, box = rng.normal(size=(2, 1, 4, 3, 5)).astype(np.float32)
    e = np.exp(logits)
    parts = [1 / (1 + np.exp(-obj[:, :1])), box, e / e.sum(1, keepdims=True)]
    spec = ModelSpec(family="fastestdet", min_confidence=0.05)
    whole = FastestDet().decode({"all": np.concatenate(parts, 1)}, spec, (80, 48))
    family = FastestDet()
    post = ("Transpose", "Softmax", "Transpose", "Concat")
    family.use_heads([PartHead("o", ("Sigmoid", "Concat")), PartHead("b", ("Concat",)), PartHead("c", post)])
    split = family.decode({"c": logits, "o": obj[:, :1], "b": box}, spec, (80, 48))
    assert len(whole) > 3
    np.testing.assert_allclose(split.xyxy, whole.xyxy, atol=1e-4)
    np.testing.assert_allclose(split.score, whole.score, rtol=1e-5)


def test_refuses_heads_of_several_sizes():
    heads = {"a": np.zeros((1, 85, 4, 4), np.float32), "b": np.zeros((1, 85, 2, 2), np.float32)}
    with pytest.raises(FamilyError, match="expected heads of one spatial size, got 4x4, 2x2"):
        FastestDet().decode(heads, ModelSpec(family="fastestdet"), (64, 64))
