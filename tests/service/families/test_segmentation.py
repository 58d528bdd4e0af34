"""Segmentation: masks, probabilities and regions."""

import cv2
import numpy as np
import pytest

from cache.onnx_import import load_model
from service import families
from service.families.base import FamilyError
from service.families.segmentation import Segmenter
from service.model_spec import ModelSpec, guess_spec
from service.preprocess import fit


def logits(height=8, width=10, classes=3):
    """Class 0 everywhere but a 3x4 block of class 1 and a 2x2 block of class 2."""
    values = np.zeros((1, classes, height, width), np.float32)
    values[0, 0] = 2.0
    values[0, 1, 1:4, 2:6] = 4.0
    values[0, 2, 5:7, 7:9] = 5.0
    return values


def test_classes_become_regions_in_plan_pixels():
    spec = ModelSpec(family="segmentation", background=0, scores="logits")
    mask = Segmenter().decode({"out": logits()}, spec, (40, 32))
    assert mask.classes.shape == mask.probability.shape == (8, 10)
    assert (mask.classes == 1).sum() == 12
    assert mask.regions.class_id.tolist() == [2, 1]
    np.testing.assert_allclose(mask.regions.xyxy, [[28, 20, 36, 28], [8, 4, 24, 16]])
    e = np.exp([2.0, 4.0, 0.0])
    np.testing.assert_allclose(mask.regions.score[1], e[1] / e.sum(), rtol=1e-5)


def test_class_numbers_are_taken_as_they_are():
    numbers = logits().argmax(1).astype(np.int64)
    mask = Segmenter().decode({"out": numbers}, ModelSpec(family="segmentation", background=0), (40, 32))
    assert sorted(mask.regions.class_id.tolist()) == [1, 2]
    assert mask.regions.score.tolist() == [1.0, 1.0]


def probability_map():
    values = np.zeros((1, 1, 16, 16), np.float32)
    values[0, 0, 2:4, 2:10] = 0.8
    values[0, 0, 10:12, 2:10] = 0.4
    values[0, 0, 14, 14] = 0.99
    return values


def test_one_channel_is_a_probability_map():
    spec = ModelSpec(family="segmentation", scores="probability", mask_threshold=0.3, min_region_px=9)
    found = Segmenter().decode({"p": probability_map()}, spec, (32, 32)).regions
    np.testing.assert_allclose(found.score, [0.8, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, [[4, 4, 20, 8], [4, 20, 20, 24]])
    assert found.class_id.tolist() == [0, 0]
    strict = spec.model_copy(update={"min_confidence": 0.5})
    assert len(Segmenter().decode({"p": probability_map()}, strict, (32, 32)).regions) == 1


def test_one_channel_of_logits_is_squashed():
    values = np.log(probability_map() + 1e-6) - np.log(1 - probability_map() + 1e-6)
    spec = ModelSpec(family="segmentation", scores="logits", mask_threshold=0.3)
    mask = Segmenter().decode({"p": values}, spec, (16, 16))
    np.testing.assert_allclose(mask.probability, probability_map()[0, 0], atol=1e-5)


def test_regions_grow_by_the_unclip_ratio():
    spec = ModelSpec(family="segmentation", scores="probability", unclip_ratio=1.5, min_confidence=0.5)
    found = Segmenter().decode({"p": probability_map()}, spec, (16, 16)).regions
    grow = 16 * 1.5 / 20
    np.testing.assert_allclose(found.xyxy, [[2 - grow, 2 - grow, 10 + grow, 4 + grow]], rtol=1e-5)


def test_refuses_what_is_no_map():
    with pytest.raises(FamilyError, match="expected an output 1xCxHxW or 1xHxW, got p 1x7"):
        Segmenter().decode({"p": np.zeros((1, 7))}, ModelSpec(family="segmentation"), (8, 8))


def test_finds_written_words_with_a_real_model(data_dir, ort_session):
    path = data_dir / "models" / "ppocrv3_det.onnx"
    if not path.is_file():
        pytest.skip(f"no test data: {path}")
    model = load_model(path)
    spec = guess_spec(model)
    frame = np.full((384, 640, 3), 230, np.uint8)
    places = {"Afterimage": (60, 100), "only what moved": (200, 300)}
    for words, place in places.items():
        cv2.putText(frame, words, place, cv2.FONT_HERSHEY_SIMPLEX, 1.4, (20, 20, 20), 3)
    image, _ = fit(frame, (640, 384), spec)
    x = np.stack([spec.normalisation()[image[:, :, c], c] for c in range(3)])[None]
    outputs = {model.outputs[0]: ort_session(path.read_bytes()).run(None, {model.inputs[0].name: x})[0]}
    found = families.create(spec).decode(outputs, spec, (640, 384)).regions
    assert found.score.min() > 0.6
    assert 2 <= len(found) <= 4  # three words may stand apart
    for words, (left, base) in places.items():
        (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 1.4, 3)
        point = (left + width * 0.2, base - height / 2)
        inside = (found.xyxy[:, :2] < point).all(1) & (found.xyxy[:, 2:] > point).all(1)
        assert inside.sum() == 1
