"""Reading the pack, on one made of a few squares."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.default.pack import PackError, read_pack
from tests.models.squares import label, picture, square, write_pack


@pytest.fixture
def folder(tmp_path):
    return write_pack(
        tmp_path,
        [
            ("one", "val", picture((0, 0)), [label(square(0, 0)), label((1, 2, 4, 8), 3, ignore=True)]),
            ("two", "train", picture((1, 1)), [label(square(1, 1), 2)]),
            ("two", "val", picture(), []),
        ],
    )


def test_reads_one_split_with_its_labels(folder):
    first, second = read_pack(folder, "val")
    assert (first.name, first.source, first.image().shape) == ("00000.jpg", "one", (192, 320, 3))
    assert first.image()[:16, :16].mean() > 240
    assert first.truth.xyxy.tolist() == [[0, 0, 16, 16], [1, 2, 4, 8]]
    assert first.truth.class_id.tolist() == [0, 2]
    assert first.truth.ignore.tolist() == [False, True]
    assert second.truth.xyxy.shape == (0, 4)
    assert [p.truth.class_id.tolist() for p in read_pack(folder, "train")] == [[1]]
    assert [(p.split, p.tier) for p in read_pack(folder)] == [("val", "A"), ("train", "A"), ("val", "A")]


def test_scores_are_the_teachers_or_one(tmp_path):
    boxes = [label(square(0, 0)) | {"score": 0.5}, label(square(1, 0))]
    (found,) = read_pack(write_pack(tmp_path, [("one", "val", picture(), boxes)]))
    assert found.scores.tolist() == [0.5, 1.0]


def test_a_tier_may_be_left_out_but_not_all(folder):
    labels = json.loads((folder / "labels.json").read_text())
    labels["images"][2]["tar"] = "images_B1.tar"
    (folder / "labels.json").write_text(json.dumps(labels))
    assert [p.source for p in read_pack(folder, "val")] == ["one"]
    (folder / "images_A1.tar").unlink()
    with pytest.raises(PackError, match=r"images_A1.tar, images_B1.tar\), found none"):
        list(read_pack(folder, "val"))


def test_says_what_is_wrong(folder):
    with pytest.raises(PackError, match="none for split 'test'"):
        list(read_pack(folder, "test"))
    (folder / "labels.json").write_text('{"images": []}')
    with pytest.raises(PackError, match="annotations, categories missing"):
        list(read_pack(folder, "val"))
    (folder / "labels.json").write_text("{")
    with pytest.raises(PackError, match="not valid JSON"):
        list(read_pack(folder, "val"))
    (folder / "labels.json").unlink()
    with pytest.raises(PackError, match="cannot be read: No such file"):
        list(read_pack(folder, "val"))


def test_a_picture_that_is_none_is_named(tmp_path):
    write_pack(tmp_path, [("one", "val", np.zeros((8, 8, 3), np.uint8), [])])
    path = tmp_path / "images_A1.tar"
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"\x00\x00\x00"))
    (found,) = read_pack(tmp_path, "val")
    with pytest.raises(PackError, match=r"00000.jpg is not an image"):
        found.image()
