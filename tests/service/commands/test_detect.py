"""`afterimage detect --save`: what it may write to, and what it says of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from own_model import write_model
from typer.testing import CliRunner

from service.cli import make_app

runner = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "own.onnx")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    return path


def detect(photo: Path, model: Path, save: Path) -> tuple[int, str]:
    result = runner.invoke(make_app(), ["detect", str(photo), "-m", str(model), "--save", str(save)])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("name", ["boxes.jpg", "boxes.JPEG"])
def test_boxes_are_kept_as_jpeg(photo: Path, model: Path, tmp_path: Path, name: str) -> None:
    code, said = detect(photo, model, tmp_path / name)
    assert code == 0, said
    assert (tmp_path / name).read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name", ["boxes.png", "boxes", "boxes.jpg.txt"])
def test_other_kinds_of_file_are_refused(photo: Path, model: Path, tmp_path: Path, name: str) -> None:
    code, said = detect(photo, model, tmp_path / name)
    assert (code, "expected a JPEG file (.jpg or .jpeg), got" in said) == (1, True), said
    assert not (tmp_path / name).exists()


def test_the_image_itself_is_not_overwritten(photo: Path, model: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    link = tmp_path / "link.jpg"
    link.symlink_to(photo)
    for save in (photo, link):
        code, said = detect(photo, model, save)
        assert (code, "expected another file than the source" in said) == (1, True), said
    assert photo.read_bytes() == before
    shutil.copy(photo, tmp_path / "copy.jpg")
    assert detect(photo, model, tmp_path / "copy.jpg")[0] == 0, "another file is replaced"


def test_a_write_that_fails_is_named(photo: Path, model: Path, tmp_path: Path) -> None:
    code, said = detect(photo, model, tmp_path / "nowhere" / "boxes.jpg")
    assert (code, "boxes.jpg: cannot be written: No such file or directory" in said) == (1, True), said
