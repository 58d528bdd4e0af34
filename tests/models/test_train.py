"""One leg and the next, on a handful of pictures, and a student that learns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; only training needs it")

from models.default import data, train
from models.default.data import Picture
from tests.models.squares import picture

TEACHERS = Path(__file__).parents[3] / "shared" / "data" / "models"


def one(split: str, source: str = "one", kind: int = 0, labelled: bool = True) -> Picture:
    jpeg = bytes(cv2.imencode(".jpg", picture((3, 3), (4, 3)))[1])
    box, ones = np.array([[48, 48, 80, 64]], np.float32), np.ones(1, np.float32)
    return Picture(jpeg, source, "A", split, labelled, box, np.array([kind]), ones, np.zeros(1, bool))


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
    first, again = (s.optimiser.state_dict()["state"][0]["exp_avg"] for s in (student, other))
    torch.testing.assert_close(first.bfloat16().float(), again)


@pytest.mark.data
@pytest.mark.skipif(not TEACHERS.exists(), reason="the teachers' files are not beside the checkout")
def test_legs_follow_one_another_up_to_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(train.CONFIG, "canvas", {"shapes": [[64, 64, 2], [96, 64, 2]]})
    data.save([*(one("train", kind=n % 2) for n in range(4)), one("val")], tmp_path / "pack.npz")
    common = ["train", "--pack", str(tmp_path / "pack.npz"), "--teachers", str(TEACHERS), "--workers", "0"]
    common += ["--networks", "lean-stale", "--classes", "2", "--resumable", "--out"]

    def leg(name, *rest):
        monkeypatch.setattr(sys, "argv", [*common, str(tmp_path / name), *rest])
        train.main()
        return capsys.readouterr().out

    assert "to be resumed at step 0 of 3" in leg("1", "--steps", "3", "--minutes", "0")
    assert not (tmp_path / "1" / "lean-stale.onnx").exists()
    assert "done at step 3 of 3" in leg("2", "--resume", str(tmp_path / "1"))
    log = json.loads((tmp_path / "2" / "log.json").read_text())
    assert log[-1]["network"] == "lean-stale"
    assert set(log[-1]["ap50"]) == {"person", "face"}
    shape = onnx.load(tmp_path / "2" / "lean-stale.onnx").graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 10, 48, 80]
