"""`afterimage calibrate`: a profile beside the model, a page, and plain errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.catalogue import find_model
from service.cli import make_app
from service.opened import open_model

runner = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the built-in model that a profile can be written beside."""
    path = tmp_path / "people.onnx"
    shutil.copy(find_model("people"), path)
    return path


def calibrate(model: Path, *options: str) -> tuple[int, str]:
    """Exit status and output."""
    command = ["calibrate", str(model), "scene", "--size", "320x192", "--frames", "4", *options]
    result = runner.invoke(make_app(), command)
    return result.exit_code, result.stdout + result.stderr


def test_a_profile_and_a_page_are_written_and_used(model: Path, tmp_path: Path) -> None:
    code, said = calibrate(model, "--budget", "error=0.05", "--html", str(tmp_path / "p.html"), "--json")
    assert code == 0, said
    report = json.loads(said[said.index("{") :])
    profile = tmp_path / "people.profile.json"
    assert report["profile"] == str(profile)
    assert report["calibrated"][0]["error"] <= 0.05
    assert not list(tmp_path.glob("*.probes")), "what a stopped search needs is gone when it is done"
    opened = open_model(model, (320, 192))
    assert opened.profile is not None
    assert opened.profile.budget == "error=0.05"
    page = (tmp_path / "p.html").read_text()
    assert "<svg" in page
    assert "scene" in page
    verified = runner.invoke(
        make_app(), ["verify", str(model), "scene", "--size", "320x192", "--frames", "4", "--json"]
    )
    found = json.loads(verified.stdout)
    assert found["budget"] == "error=0.05"
    assert sum(found["decisions"].values()) == 4


@pytest.mark.parametrize(("options", "said"), [
    (["--budget", "loud"], 'expected "noise"'), (["--out", "/nowhere/at/all.json"], "no such folder"),
], ids=["budget", "folder"])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(model: Path, options: list[str], said: str) -> None:
    code, found = calibrate(model, *options)
    assert code == 1
    assert "error:" in found
    assert said in found


def test_a_clip_without_frames_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = runner.invoke(make_app(), ["calibrate", str(model), str(tmp_path / "empty"), "--size", "64x64"])
    assert result.exit_code == 1
    assert "error:" in result.stderr
    assert not (tmp_path / "people.profile.json").exists()
