"""The training material: which pictures are taken, and that what is written is what is read."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from models.default import data
from models.default.data import Picture
from tests.models.squares import label, picture, square, write_clip, write_pack

FIELDS = ("boxes", "classes", "scores", "ignored")


def named(folder, *origins):
    """A pack with one picture of each origin."""
    boxes = [label(square(0, 0)) | {"score": 0.5}, label((1, 2, 4, 8), 3, ignore=True)]
    write_pack(folder, [("one", "train", picture((0, 0)), boxes) for _ in origins])
    labels = json.loads((folder / "labels.json").read_text())
    for record, origin in zip(labels["images"], origins, strict=True):
        record["orig"] = origin
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def test_labels_become_arrays(tmp_path):
    (found,) = data.labelled_pictures(named(tmp_path, "photo.jpg"))
    assert (found.source, found.tier, found.split, found.labelled) == ("one", "A", "train", True)
    assert found.boxes.tolist() == [[0, 0, 16, 16], [1, 2, 4, 8]]
    assert (found.classes.tolist(), found.scores.tolist()) == ([0, 2], [0.5, 1.0])
    assert found.ignored.tolist() == [False, True]
    assert [getattr(found, name).dtype for name in FIELDS] == [np.float32, np.int64, np.float32, bool]
    assert cv2.imdecode(np.frombuffer(found.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (192, 320, 3)


def test_frames_of_a_clips_later_part_are_left_out(tmp_path, monkeypatch):
    file, _, seen, _ = data.CLIPS[0]
    clip = file.partition(".")[0]
    origins = [f"{clip}@{seen - 1}", f"{clip}@{seen}", f"{clip}@{seen + 1}", "elsewhere@99999", f"{clip}.jpg"]
    folder = named(tmp_path, *origins)
    kept = []
    monkeypatch.setattr(data, "Picture", lambda *values: kept.append(values[0]))
    list(data.labelled_pictures(folder))
    everything = [found.jpeg for found in data.read_pack(folder)]
    assert kept == [everything[0], everything[3], everything[4]]


def test_clips_give_frames_without_labels(tmp_path, monkeypatch):
    write_clip(tmp_path / "walk", [picture((n, 0)) for n in range(9)])
    monkeypatch.setattr(data, "CLIPS", (("walk", "B", 6, 2),))
    found = list(data.clip_pictures(tmp_path))
    assert [(p.source, p.tier, p.split, p.labelled, len(p.boxes)) for p in found] == [
        ("walk", "B", "train", False, 0)
    ] * 3
    last = cv2.imdecode(np.frombuffer(found[-1].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert last[:16, 64:80].mean() > 230  # frame 4 of those before the sixth


def test_scenes_are_not_the_one_that_is_built_in(monkeypatch):
    from service.scene import Scene

    monkeypatch.setattr(data, "SCENE_SEEDS", 1)
    monkeypatch.setattr(data, "SCENE_FRAMES", 6)
    found = list(data.scene_pictures())
    assert len(found) == 6
    assert sum(len(p.boxes) for p in found) > 0
    for picture_ in found:
        image = cv2.imdecode(np.frombuffer(picture_.jpeg, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        assert (picture_.boxes >= 0).all()
        assert (picture_.boxes <= [width, height, width, height]).all()
        small = Scene(0, (width, height)).frame(0)
        assert np.abs(image.astype(int) - small).mean() > 10


def test_what_is_saved_is_what_is_loaded(tmp_path):
    rng = np.random.default_rng(0)

    def random(count, split, labelled):
        boxes = rng.random((count, 4), np.float32)
        kinds, scores = rng.integers(0, 3, count), rng.random(count, np.float32)
        return Picture(
            rng.bytes(5 + count), f"s{count}", "AB"[count % 2], split, labelled, boxes, kinds, scores, scores > 0.5
        )

    # The first and the last without boxes, as where ends are split off.
    written = [random(0, "train", False), random(3, "val", True), random(1, "train", True), random(0, "val", True)]
    data.save(written, tmp_path / "deep" / "pack.npz")
    read = data.load(tmp_path / "deep" / "pack.npz")
    assert len(read) == len(written)
    for got, wanted in zip(read, written, strict=True):
        for name in ("jpeg", "source", "tier", "split", "labelled"):
            assert getattr(got, name) == getattr(wanted, name)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
            assert getattr(got, name).dtype == getattr(wanted, name).dtype


@pytest.mark.parametrize("module", ["data", "layout", "metrics", "pack"])
def test_the_loader_needs_nothing_of_the_product(module):
    code = f"import sys, models.default.{module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"kernels", "cache", "service", "clients", "numba", "pydantic", "av", "onnxruntime"} & set(loaded)
