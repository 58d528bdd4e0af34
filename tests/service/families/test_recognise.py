"""Recognising layouts and metadata, on facts alone."""

import pytest

from service.families.recognise import ModelFacts, OutputFact, head_layout, literal, recognise


def facts(*shapes, width=320, height=256, op="Conv", **metadata):
    outputs = tuple(OutputFact(f"o{n}", shape, op) for n, shape in enumerate(shapes))
    return ModelFacts(3, width, height, outputs, metadata)


@pytest.mark.parametrize(
    ("shape", "classes", "layout"),
    [
        ((1, 84, 8400), 80, "v8"),
        ((1, 25200, 85), 80, "v5"),
        ((1, 116, 8400), 80, "v8"),
        ((1, 25200, 117), 80, "v5"),
        ((1, 84, 21), 80, "v8"),
        ((1, 63, 85), 80, "v5"),
        ((1, 56, 8400), 1, "v8"),
        ((1, 8400, 84), None, "v5"),
        ((1, 84, None), None, "v8"),
        ((1, None, 85), None, "v5"),
        ((1, None, None), None, None),
        ((1, 300, 6), 80, "end2end"),
        ((1, 300, 38), 80, "end2end"),
        ((1, 84), 80, None),
    ],
)
def test_layout_of_an_output(shape, classes, layout):
    assert head_layout(shape, classes) == layout


def test_grids_count_cells_of_any_aspect():
    assert recognise(facts((1, 40 * 32 + 20 * 16 + 10 * 8, 7)))["family"] == "yolox"
    pairs = [(1, cells, c) for cells in (1280, 320, 80) for c in (20, 32)]
    assert recognise(facts(*pairs))["family"] == "nanodet"
    four = [(1, cells, c) for cells in (1280, 320, 80) for c in (1, 1, 4, 10)]
    assert recognise(facts(*four))["family"] == "yunet"
    assert recognise(facts(*four[:-1]))["family"] == "raw"
    priors = 3 * 40 * 32 + 2 * 20 * 16 + 2 * 10 * 8 + 3 * 5 * 4
    assert recognise(facts((1, priors, 4), (1, priors, 2)))["family"] == "ultraface"


def test_own_models_say_their_family_and_labels():
    own = {"afterimage.family": "afterimage", "labels": "person, face"}
    fields = recognise(facts((1, 10, 32, 40), (1, 10, 16, 20), (1, 10, 8, 10), **own))
    assert fields == {"family": "afterimage", "labels": ["person", "face"]}
    assert recognise(facts((1, 10, 32, 40), **{"afterimage.family": "afterimage"}))["labels"] == []
    assert recognise(facts((1, 10, 32, 40), labels="person,face"))["family"] != "afterimage"


def test_coco_labels_only_for_eighty_classes():
    assert recognise(facts((1, 1680, 85)))["labels"] == "coco80"
    assert "labels" not in recognise(facts((1, 1680, 25)))


def test_one_channel_map_tells_its_scores_by_its_last_op():
    assert recognise(facts((1, 1, 256, 320), op="Sigmoid"))["scores"] == "probability"
    assert recognise(facts((1, 1, 256, 320)))["scores"] == "logits"


def test_nothing_known_is_raw():
    assert recognise(facts()) == {"family": "raw"}
    assert recognise(facts((1, 2, 3, 4, 5)))["family"] == "raw"


def test_metadata_that_is_no_literal_is_passed_over():
    assert literal("__import__('os')") is None
    assert literal(None) is None
    assert recognise(facts((1, 1680, 25), names="not a dict", stride="32"))["family"] == "yolox"
