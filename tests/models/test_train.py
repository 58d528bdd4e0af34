"""One leg and the next, on a handful of pictures, and a student that learns."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default import data, loss, train
from models.default.data import Picture
from tests.models.squares import picture

TEACHERS = Path(__file__).parents[3] / "shared" / "data" / "models"


def one(split: str, source: str = "one", kind: int = 0, labelled: bool = True, tier: str = "A") -> Picture:
    jpeg = bytes(cv2.imencode(".jpg", picture((3, 3), (4, 3)))[1])
    box, ones = np.array([[48, 48, 80, 64]], np.float32), np.ones(1, np.float32)
    return Picture(jpeg, source, tier, split, labelled, box, np.array([kind]), ones, np.zeros(1, bool))


def moments(student: train.Student) -> list[dict]:
    """The optimiser's state of each of the student's parameters."""
    return [student.optimiser.state[part] for part in student.parameters()]


def flat(values: list) -> np.ndarray:
    return torch.cat([value.detach().float().flatten() for value in values]).numpy().copy()


def state(student: train.Student) -> dict[str, np.ndarray]:
    """Everything that a leg leaves to the next; moments at the precision of the file."""
    parts = {name: flat(list(getattr(student, name).state_dict().values())) for name in ("net", "pretext", "average")}
    entries = [entry for entry in moments(student) if entry]
    if entries:
        for name in ("exp_avg", "exp_avg_sq"):
            parts[name] = flat([entry[name].bfloat16() for entry in entries])
        parts["step"] = flat([entry["step"] for entry in entries])
    return parts


def test_a_tier_that_is_left_out_still_validates():
    pictures = [one(split, tier=tier) for split in ("train", "val") for tier in "AB"]
    kept = [(p.split, p.tier) for p in train.chosen(pictures, "A")]
    assert kept == [("train", "A"), ("val", "A"), ("val", "B")]
    assert len(train.chosen(pictures, "AB")) == 4


def test_rare_pictures_are_drawn_more_often():
    mix = train.CONFIG["mix"]
    clip = data.CLIPS[0][0]
    pictures = [one("train"), one("train", kind=2), one("train", "scene"), one("train", clip, labelled=False)]
    assert train.weights_of(pictures).tolist() == [1.0, 2.0, mix["scene"], mix["clip"]]


def test_a_student_saves_all_that_the_next_leg_needs(tmp_path):
    torch.manual_seed(0)
    student = train.Student("lean", torch.device("cpu"), 2, 1.0)
    for part in student.parameters():
        part.grad = torch.randn_like(part)
    student.optimiser.step()
    student.steps, student.total = 7, 90
    student.save(tmp_path, resumable=True)
    other = train.Student("lean", torch.device("cpu"), 2, 1.0)
    other.load(tmp_path)
    assert (other.steps, other.total) == (7, 90)
    for name, values in student.net.state_dict().items():
        assert torch.equal(values, other.net.state_dict()[name])
    for now, then in zip(moments(other), moments(student), strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert now[name].dtype == then[name].dtype == torch.float32  # saving leaves the student as it was
            assert then[name].any()
            torch.testing.assert_close(then[name].bfloat16().float(), now[name], rtol=0, atol=0)


def test_boxes_are_decoded_class_by_class():
    boxes = torch.tensor([[100, 100, 200, 200], [110, 100, 210, 200], [190, 100, 290, 200], [-9, 300, 90, 999]]).float()
    floor = math.log(0.02 / 0.98)
    logits = torch.tensor([[2.0, 3.0, 1.0, floor - 0.01], [0.0, -9.0, -9.0, floor + 0.01]])
    found = train._decode(logits, torch.stack([boxes, boxes]))
    assert found.class_id.tolist() == [0, 0, 1, 1]  # the first person gives way to the second, not the first face
    assert found.xyxy.tolist() == [[110, 100, 210, 200], [190, 100, 290, 200], [100, 100, 200, 200], [0, 300, 90, 384]]
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp(-np.array([3.0, 1.0, 0.0, floor + 0.01]))), rtol=1e-5)
    assert train._decode(logits, torch.stack([boxes, boxes]), most=1).class_id.tolist() == [0, 1]
    nothing = train._decode(logits - 9, torch.stack([boxes, boxes]))
    assert (nothing.xyxy.shape, nothing.score.shape, nothing.class_id.shape) == ((0, 4), (0,), (0,))


def test_cells_are_labelled_as_the_topmost_picture_is():
    cells = loss.Cells.of(96, 32, torch.device("cpu"))
    top = torch.full((2, 32, 96), -1)
    top[:, :, :32], top[:, :, 32:64] = 0, 1
    known = torch.tensor([True, False, True])
    flags = train._labelled_cells(top, torch.tensor([[2, 1], [1, 0]]), known, cells)
    third = (cells.centre[:, 0] // 32).long()
    assert flags.shape == (2, 12 * 4 + 6 * 2 + 3)
    assert torch.equal(flags[0], torch.tensor([True, False, True])[third])
    assert torch.equal(flags[1], torch.tensor([False, True, True])[third])


@pytest.mark.data
@pytest.mark.skipif(not TEACHERS.exists(), reason="the teachers' files are not beside the checkout")
def test_legs_follow_one_another_up_to_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(train.CONFIG, "canvas", {"shapes": [[64, 64, 2], [96, 64, 2]]})
    pictures = [*(one("train", kind=n % 2) for n in range(4)), one("train", tier="B"), one("val"), one("val", tier="B")]
    data.save(pictures, tmp_path / "pack.npz")
    common = ["train", "--pack", str(tmp_path / "pack.npz"), "--teachers", str(TEACHERS), "--workers", "0"]
    common += ["--networks", "lean-stale", "--classes", "2", "--tiers", "A", "--spare", "0", "--resumable", "--out"]
    learn, seen = train.Student.learn, []

    def learn_in_a_minute(student, *rest):
        seen.append((student, student.steps, state(student)))
        return learn(student, *rest)

    def leg(name, *rest):
        monkeypatch.setattr(sys, "argv", [*common, str(tmp_path / name), *rest])
        train.main()
        return capsys.readouterr().out

    monkeypatch.setattr(train.Student, "learn", learn_in_a_minute)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: 60.0 * len(seen)))
    said = leg("1", "--steps", "4", "--minutes", "1.5")
    assert "4 pictures to train on, 2 to validate" in said
    assert "to be resumed at step 2 of 4" in said
    assert not (tmp_path / "1" / "lean-stale.onnx").exists()
    begin, end = seen[0][2], state(seen[0][0])
    assert "done at step 4 of 4" in leg("2", "--resume", str(tmp_path / "1"))
    assert [steps for _, steps, _ in seen] == [0, 1, 2, 3]
    resumed = seen[2][2]
    assert seen[2][0] is not seen[0][0]
    assert set(resumed) == set(end) == {*begin, "exp_avg", "exp_avg_sq", "step"}
    for name, values in end.items():
        np.testing.assert_array_equal(resumed[name], values, err_msg=name)
        assert values.any(), name
        assert name not in begin or not np.array_equal(values, begin[name]), name
    assert not np.array_equal(end["average"], end["net"])
    assert (end["step"] == 2).all()
    log = json.loads((tmp_path / "2" / "log.json").read_text())
    assert log[-1]["network"] == "lean-stale"
    assert set(log[-1]["ap50"]) == {"person", "face"}
    shape = onnx.load(tmp_path / "2" / "lean-stale.onnx").graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 10, 48, 80]
