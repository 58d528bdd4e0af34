"""`afterimage compress` as a person types it: a smaller model beside the large one, and plain errors."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli import make_app
from service.commands import compress as command
from service.opened import open_model
from tests.service.compression.small_models import frames, maps

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with its specification, and a clip."""
    (tmp_path / "large.onnx").write_bytes(maps())
    (tmp_path / "large.toml").write_text('family = "raw"\ncolour = "BGR"\nstd = 64\n')
    (tmp_path / "clip").mkdir()
    for number, frame in enumerate(frames(6)):
        cv2.imwrite(str(tmp_path / "clip" / f"{number}.png"), frame)
    return tmp_path


def run(folder: Path, *options: str, out: str = "small.onnx", clip: str = "clip") -> tuple[int, str]:
    """Exit status, and what was said."""
    arguments = [str(folder / "large.onnx"), str(folder / out), "--frames", str(folder / clip), *options]
    result = runner.invoke(make_app(["compress"]), ["compress", *arguments])
    return result.exit_code, result.output


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_smaller_model_lies_beside_the_large_one(folder):
    code, said = run(folder, "--macs", "0.5", "--samples", "4", "--json", str(folder / "report.json"))
    assert code == 0, said
    report = json.loads((folder / "report.json").read_text())
    assert report["macs_share"] <= 0.5
    assert report["frames"] == [2, 2]
    assert report["times"]["frames"] == 5
    for word in ("multiply-accumulates", "error of the outputs", "dense frame", "cached frame", "small.onnx"):
        assert word in said
    large, small = open_model(folder / "large.onnx"), open_model(folder / "small.onnx")
    assert small.spec == large.spec, "its specification went along"
    assert (small.size, small.outputs, small.profile) == (large.size, large.outputs, None)
    clip = str(folder / "clip")
    verified = runner.invoke(make_app(["verify"]), ["verify", str(folder / "small.onnx"), clip, "--exact", "--json"])
    assert verified.exit_code == 0
    assert json.loads(verified.stdout)["bit_identical"]


def test_every_kind_of_target_and_method(folder):
    for options in (["--energy", "vbmf", "--method", "svd"], ["--budget", "0.2", "--no-correct"]):
        code, said = run(folder, *options, "--no-time", "--force")
        assert code == 0, said
        assert "cached frame" not in said


@pytest.mark.parametrize(("options", "said"), [
    ([], "expected one of energy, macs and budget, got none"),
    (["--macs", "0.5", "--energy", "0.9"], "got energy and macs"),
    (["--macs", "2"], "macs: expected a share between 0 and 1, got 2.0"),
    (["--energy", "much"], "energy: expected a share above 0 up to 1, or vbmf, got 'much'"),
    (["--budget", "1e-12", "--no-time"], "the least that was found"),
    (["--macs", "0.5", "--json", "/nowhere/at/all.json"], "no such folder"),
], ids=str)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(folder, options, said):
    before = files(folder)
    code, found = run(folder, *options)
    assert code == 1
    assert found.count("error:") == 1
    assert said in " ".join(found.split())
    assert files(folder) == before, "nothing is written"


def test_clips_and_places_that_are_not_there(folder):
    before = files(folder)
    for options, said in (
        ({"clip": "missing.mp4"}, "no such file or folder"), ({"clip": "large.toml"}, "not a video"),
        ({"out": "missing/small.onnx"}, "no such folder"), ({"out": "large.onnx"}, "than the model itself"),
    ):  # fmt: skip
        code, found = run(folder, "--macs", "0.5", **options)
        assert code == 1
        assert said in " ".join(found.split())
    assert files(folder) == before


def test_a_report_can_be_printed_instead(folder):
    arguments = [str(folder / "large.onnx"), str(folder / "small.onnx"), "--frames", str(folder / "clip")]
    result = runner.invoke(
        make_app(["compress"]), ["compress", *arguments, "--macs", "0.5", "--no-time", "--json", "-"]
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["times"] is None
    assert (folder / "small.onnx").is_file()


def test_a_report_in_the_place_of_the_model_is_refused(folder):
    before = files(folder)
    code, said = run(folder, "--macs", "0.5", "--json", str(folder / "large.onnx"))
    assert code == 1
    assert "a file for the report alone" in " ".join(said.split())
    assert files(folder) == before


def test_what_is_there_is_left_without_force(folder):
    (folder / "small.onnx").write_bytes(b"mine")
    code, found = run(folder, "--macs", "0.5")
    assert code == 1
    assert "exists; --force replaces it" in " ".join(found.split())
    assert (folder / "small.onnx").read_bytes() == b"mine"


@pytest.mark.parametrize(("stretch", "positions"), [
    ("", [0, 3, 6, 9]), ("@4+8", [4, 6, 8, 10]), ("@4", [4, 6, 8, 10]), ("@0+3", [0, 1, 2]),
    ("@0+100/2", [0, 2, 4, 6]), ("@2+3/1", [2, 3, 4]),
])  # fmt: skip
def test_samples_are_spread_over_what_is_stated(folder, stretch, positions):
    (folder / "numbered").mkdir()
    for number in range(12):
        cv2.imwrite(str(folder / "numbered" / f"{number:02}.png"), np.full((8, 8, 3), number, np.uint8))
    found = command._spread(f"{folder / 'numbered'}{stretch}", 4)
    assert [int(frame[0, 0, 0]) for frame in found] == positions


def test_the_scene_is_sampled_a_second_apart(folder, monkeypatch):
    asked = []
    whole = command.open_source
    monkeypatch.setattr(
        command,
        "open_source",
        lambda *of, **how: asked.append(how.get("every", 1)) or whole(*of, **how),
    )
    assert [len(list(command._spread(text, 2))) for text in ("scene", "scene@0+40")] == [2, 2]
    assert asked == [1, 25, 1, 20]


def test_a_figure_of_the_frame_that_was_fitted_to_is_said_to_be_one(folder):
    code, said = run(folder, "--energy", "0.9", "--samples", "1", "--no-time")
    assert code == 0, said
    assert "the same one" in said
    code, said = run(folder, "--energy", "0.9", "--samples", "2", "--no-time", "--force")
    assert "the same one" not in said
