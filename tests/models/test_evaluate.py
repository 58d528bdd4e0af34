"""The evaluation, on a pack and clips of squares whose figures are known."""

from __future__ import annotations

import io
import json

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from models.default import evaluate as module
from models.default.detector import ENGINES, Detector
from models.default.evaluate import CLIPS, Clip, clip_figures, compare_on_clip, evaluate
from models.default.metrics import Found
from models.default.pack import HUMAN_SOURCE, LABELS, read_pack
from models.default.tables import show_evaluation
from tests.models.squares import label, picture, square, write_clip, write_model, write_pack


@pytest.fixture
def data(tmp_path):
    """Four persons to find, one of them not there to be seen; a square in an ignored region; a face without a sign."""
    write_pack(
        tmp_path / "training",
        [
            (HUMAN_SOURCE, "val", picture((3, 2), (10, 7)), [label(square(3, 2)), label(square(10, 7))]),
            (
                "clips",
                "val",
                picture((1, 1), (5, 5)),
                [label(square(1, 1)), label((80, 80, 160, 160), ignore=True), label(square(15, 8))],
            ),
            ("clips", "val", picture(), [label(square(4, 4), 2)]),
            ("clips", "train", picture((0, 0)), []),
        ],
    )
    write_model(tmp_path / "models" / "yolox_nano.onnx")
    frames = [picture((2, 2), (8, 3)), picture((2, 2)), picture((6, 6), value=240), picture((6, 6))]
    write_clip(tmp_path / "videos" / "walk", frames)
    return tmp_path


def test_validation_figures(data):
    model = write_model(data / "people.onnx")
    report = evaluate([model], data, references=False, clips=())
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    figures = report["models"]["people"]
    assert (report["pictures"], report["engine"], figures["threshold"]) == (3, "onnxruntime", 0.3)
    person = figures["val"]["all"]["person"]
    assert (person["truths"], person["precision"], person["recall"]) == (4, 1.0, 0.75)
    assert person["ap50"] == pytest.approx(76 / 101)
    assert person["sizes"]["32-96"]["truths"] == 4  # 16 px in the picture, 32 px at the input
    assert set(figures["val"]["all"]) == {"person", "face"}
    assert figures["val"]["all"]["face"]["ap50"] == 0.0
    assert figures["val"]["human"] == {"person": figures["val"]["sources"][HUMAN_SOURCE]["person"]}
    assert figures["val"]["human"]["person"]["ap50"] == 1.0
    assert figures["val"]["teachers"]["person"]["ap50"] == pytest.approx(51 / 101)
    assert figures["val"]["sources"]["clips"] == figures["val"]["teachers"]


def test_both_engines_give_the_same_figures(data):
    model = write_model(data / "people.onnx")
    reports = [evaluate([model], data, engine=engine, references=False, clips=()) for engine in ENGINES]
    one, other = (report["models"]["people"]["val"]["all"]["person"] for report in reports)
    assert [report["engine"] for report in reports] == list(ENGINES)
    assert one.pop("best_threshold") == pytest.approx(other.pop("best_threshold"), abs=1e-3)
    assert one == other


def test_threshold_is_the_models_own_unless_given(data):
    model = write_model(data / "people.onnx")
    report = evaluate([model], data, threshold=1.01, references=False, clips=())
    person = report["models"]["people"]["val"]["all"]["person"]
    assert report["models"]["people"]["threshold"] == 1.01
    assert (person["precision"], person["recall"]) == (None, 0.0)


def test_agreement_on_a_clip_and_its_parts(data):
    clip = Clip("walk", "person", 1, seen=2)
    same, blind = write_model(data / "same.onnx"), write_model(data / "blind.onnx", darkest=236)
    report = evaluate([same, blind], data, references=False, clips=(clip,))["models"]
    parts = report["same"]["clips"]["walk"]["parts"]
    assert {name: part["frames"] for name, part in parts.items()} == {"all": 4, "0-1": 2, "2-": 2}
    assert [part["f1"] for part in parts.values()] == [1.0, 1.0, 1.0]
    other = report["blind"]["clips"]["walk"]["parts"]  # does not see the grey square
    assert (other["all"]["truths"], other["all"]["recall"], other["all"]["precision"]) == (5, 0.8, 1.0)
    assert other["0-1"]["f1"] == 1.0
    assert other["2-"]["f1"] == pytest.approx(2 / 3)
    assert other["2-"]["strict_f1"] == pytest.approx(2 / 3)


def test_every_nth_frame_and_parts_without_frames(data):
    detect = Detector(data / "models" / "yolox_nano.onnx")
    clip = Clip("walk", "person", 3, seen=100)
    tally = compare_on_clip(clip, data / "videos" / "walk", detect, {"m": detect})["m"]
    assert tally.positions == [0, 3]
    assert set(clip_figures(clip, tally, 0.3)["parts"]) == {"all", "0-99"}


def test_a_model_is_not_asked_for_classes_that_it_lacks(data):
    vehicles = Clip("walk", "vehicle", 1)
    report = evaluate([write_model(data / "people.onnx")], data, references=False, clips=(vehicles,))
    assert report["models"]["people"]["clips"] == {}


def test_sizes_are_measured_at_the_input(data):
    first = next(read_pack(data / "training", "val"))
    found, truth = module.pair_at_input(lambda image: Found(first.truth.xyxy, [], []), first)
    assert truth.xyxy.tolist() == (first.truth.xyxy * 2).tolist()
    assert found.xyxy.tolist() == truth.xyxy.tolist()


def test_clips_that_training_saw_are_parted():
    by_file = {clip.file: clip for clip in CLIPS}
    assert {clip.label for clip in CLIPS} <= set(LABELS)
    assert list(by_file["intel_one-by-one-person-detection.mp4"].parts()) == ["all", "0-899", "900-"]
    assert list(by_file["intel_asl_walk.mkv"].parts()) == ["all", "0-59", "60-"]
    assert list(by_file["sam2_05_default_juggle.mp4"].parts()) == ["all"]


def test_tables_name_every_model_and_figure(data):
    report = evaluate([write_model(data / "people.onnx")], data, references=False, clips=(Clip("walk", "person", 1),))
    report["references"] = {"teacher": report["models"]["people"]}
    written = io.StringIO()
    show_evaluation(report, Console(file=written, width=200))
    for expected in ("people", "(teacher)", "labelled by people", "0.752 (4)", "walk", "all (4)", "clips"):
        assert expected in written.getvalue()


def test_the_command_writes_json_and_says_errors_in_a_line(data):
    app = typer.Typer()
    app.command()(module.command)
    model = write_model(data / "people.onnx")
    arguments = [str(model), "--data", str(data), "--json", str(data / "out.json"), "--no-references", "--no-clips"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads((data / "out.json").read_text())["pictures"] == 3
    assert CliRunner().invoke(app, [*arguments, "--engine", "none"]).exit_code == 2
    (data / "training" / "labels.json").unlink()
    failed = CliRunner().invoke(app, arguments)
    assert (failed.exit_code, type(failed.exception)) == (2, SystemExit)
    assert "cannot be read" in failed.output
    assert CliRunner().invoke(app, ["missing.onnx", *arguments[1:]]).exit_code == 1
