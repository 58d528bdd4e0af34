"""UltraFace: priors by formula are those in the file, and so are the boxes."""

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from service.families.base import FamilyError
from service.families.ultraface import UltraFace, priors
from service.model_spec import ModelSpec

CLIP = "intel_asl_walk.mkv"
SIZE = (640, 480)
NET = "ultraface_version-RFB-640"


def test_priors_are_the_constants_of_the_file(real_model):
    nodes = onnx.load(real_model(NET).path).graph.node
    tables = [onnx.numpy_helper.to_array(n.attribute[0].t) for n in nodes if n.op_type == "Constant"]
    tables = [t.reshape(-1, 2) for t in tables if t.size == 2 * 17640]
    scale = np.array(SIZE, np.float32)
    table = np.concatenate([priors(stride, SIZE) for stride in (8, 16, 32, 64)])
    assert len(tables) >= 2
    for constant in tables:
        distances = [np.abs(constant * scale - half).max() for half in (table[:, :2], table[:, 2:])]
        assert min(distances) < 1e-3


def test_equals_the_boxes_of_the_file(real_model, clip_frame):
    net = real_model(NET)
    x = net.tensor(clip_frame(CLIP, 30), SIZE)
    spec = net.spec.model_copy(update={"min_confidence": 0.05})
    found = net.family.candidates(net.spatial(x), spec, SIZE)
    full = net.full(x)
    score = full["scores"][0, :, 1]
    keep = score > 0.05
    assert len(found) > 10
    np.testing.assert_allclose(found.score, score[keep], rtol=1e-4)
    np.testing.assert_allclose(found.xyxy, full["boxes"][0, keep] * [*SIZE, *SIZE], atol=1e-2)


def test_every_box_of_the_file_is_met(real_model, clip_frame):
    net = real_model(NET)
    x = net.tensor(clip_frame(CLIP, 30), SIZE)
    found = net.family.candidates(net.spatial(x), net.spec.model_copy(update={"min_confidence": 0.0}), SIZE)
    assert len(found) == 17640
    np.testing.assert_allclose(found.xyxy, net.full(x)["boxes"][0] * [*SIZE, *SIZE], atol=2e-2)


def test_finds_the_same_face_at_another_size(real_model, clip_frame):
    net = real_model(NET)
    frame = clip_frame(CLIP, 30)
    native = net.family.decode(net.spatial(net.tensor(frame, SIZE)), net.spec, SIZE)
    wide = net.family.decode(net.spatial(net.tensor(frame, (640, 384))), net.spec, (640, 384))
    assert native.score[0] > 0.9
    assert wide.score[0] > 0.9
    np.testing.assert_allclose(wide.xyxy[0] / [1, 0.8, 1, 0.8], native.xyxy[0], atol=12)


def test_refuses_a_map_of_no_known_stride():
    heads = {"a": np.zeros((1, 6, 5, 5), np.float32), "b": np.zeros((1, 12, 5, 5), np.float32)}
    with pytest.raises(FamilyError, match="strides 8, 16, 32 and 64 of 640x480, got 5x5"):
        UltraFace().decode(heads, ModelSpec(family="ultraface"), SIZE)
