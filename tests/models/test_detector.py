"""A model as a function from frame to boxes of our classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.default.detector import ENGINES, Detector, as_ours, class_numbers, names_of
from service.families import FAMILIES, Detections, FamilyError
from tests.models.squares import picture, square, write_model, write_people_model


@pytest.mark.parametrize("engine", ENGINES)
def test_finds_squares_in_frame_pixels(tmp_path, engine):
    detect = Detector(write_model(tmp_path / "squares.onnx"), engine=engine)
    assert (detect.name, detect.labels, detect.threshold) == ("squares", ("person", "face"), 0.3)
    found = detect(picture((3, 2), (10, 7)))
    assert sorted(found.xyxy.tolist()) == [list(square(3, 2)), list(square(10, 7))]
    assert found.class_id.tolist() == [0, 0]
    assert found.score.min() > 0.6
    assert len(detect(picture())) == 0


@pytest.mark.skipif("afterimage" not in FAMILIES, reason="needs the family of the default model")
@pytest.mark.parametrize("engine", ENGINES)
def test_the_heads_of_the_default_model(tmp_path, engine):
    detect = Detector(write_people_model(tmp_path / "people.onnx"), engine=engine)
    assert detect.labels == ("person", "face")
    found = detect(picture((3, 2), (10, 7)))
    assert sorted(found.xyxy.round(3).tolist()) == [list(square(3, 2)), list(square(10, 7))]
    assert found.class_id.tolist() == [0, 0]
    assert found.score.min() > 0.9


def test_faint_boxes_are_kept_down_to_the_least_score(tmp_path):
    path = write_model(tmp_path / "squares.onnx")
    faint = picture((3, 2), value=212)
    kept = Detector(path)(faint)
    assert len(kept) == 1
    assert 0.01 < kept.score[0] < 0.3
    assert len(Detector(path, least=0.3)(faint)) == 0


def test_classes_are_ours_by_name():
    assert class_numbers(("face", "dog", "truck", "person", "bus")).tolist() == [1, -1, 2, 0, 2]


def test_classes_that_became_one_are_suppressed_once_more():
    box, beside = [0, 0, 100, 100], [300, 0, 400, 100]
    found = Detections(
        np.asarray([box, box, box, beside], np.float32),
        np.asarray([0.9, 0.8, 0.7, 0.6], np.float32),
        np.asarray([0, 1, 2, 1], np.int32),
    )
    ours = as_ours(found, class_numbers(("car", "truck", "dog")), 0.45)
    assert ours.xyxy.tolist() == [box, beside]
    assert ours.class_id.tolist() == [2, 2]


def test_a_model_without_our_classes_is_refused(tmp_path):
    with pytest.raises(FamilyError, match="person, face, vehicle; its labels are cat, dog"):
        Detector(write_model(tmp_path / "pets.onnx", ("cat", "dog")))


def test_names_in_a_report():
    paths = [Path("a/one.onnx"), Path("b/two.onnx")]
    assert names_of(paths) == ["one", "two"]
    assert names_of([*paths, Path("c/one.onnx")]) == ["a/one.onnx", "two", "c/one.onnx"]
