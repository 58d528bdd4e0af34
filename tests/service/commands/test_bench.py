"""`afterimage bench` as a person types it, on a tiny model and few rounds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from own_model import write_model
from typer.testing import CliRunner

from service.bench import machine, openvino_engine, plots
from service.bench import report as pages
from service.cli import make_app
from service.commands import bench, reports
from service.settings import Settings

runner = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.onnx")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    background = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)
    for number in range(4):
        frame = background.copy()
        frame[8:40, 12 * number : 12 * number + 32] = 200
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = runner.invoke(make_app(), ["bench", *map(str, arguments)])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_whole_frames_as_json_table_and_page(model: Path, tmp_path: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "figures.json"
    code, said, complaints = run("dense", model, "--rounds", 1, "--html", page, "--json", file)
    assert code == 0, complaints
    report = json.loads(file.read_text())
    assert [row["model"] for row in report["models"]] == ["tiny"]
    assert report["models"][0]["openvino_ms"] > 0
    assert "tiny" in said
    assert "geometric" in said
    assert page.read_text(encoding="utf-8") == pages.page(report)


def test_json_alone_on_stdout(model: Path) -> None:
    code, said, _ = run(
        "dense", model, "synthetic:mobilenet", "--size", "96x64", "--rounds", 1, "--against", "", "--json", "-"
    )
    assert code == 0
    report = json.loads(said)
    assert [(row["model"], row["size"]) for row in report["models"]] == [
        ("tiny", "96x64"), ("synthetic:mobilenet", "96x64"),
    ]  # fmt: skip
    assert report["geometric_mean"] is None


def test_a_clip(model: Path, clip: Path, tmp_path: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "figures.json"
    code, said, complaints = run("video", model, clip, "--start", 1, "--frames", 3, "--html", page, "--json", file)
    assert code == 0, complaints
    report = json.loads(file.read_text())
    assert (report["model"], report["clip"], report["start"], report["every"]) == ("tiny", "clip", 1, 1)
    assert report["frames"] == 3
    assert report["bit_identical"] is True
    assert "tiny, 3 frames" in " ".join(said.split())
    assert "OpenVINO" in said
    assert page.read_text(encoding="utf-8") == pages.page(report)


def test_several_clips_and_their_stretches(model: Path, clip: Path, tmp_path: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "figures.json"
    stretches = (f"{clip}@1+2", f"{clip}@0/2", clip)
    code, said, complaints = run(
        "video", model, *stretches, "--frames", 3, "--against", "", "--html", page, "--json", file
    )
    assert code == 0, complaints
    report = json.loads(file.read_text())
    assert report["kind"] == "clips"
    found = [(one["start"], one["frames"], one["every"]) for one in report["clips"]]
    assert found[0] == (1, 2, 1)
    assert found[1][0] == 0
    assert found[1][2] == 2
    assert found[2] == (0, 3, 1)
    assert "clip@1" in said.replace("\n", "")
    assert page.read_text(encoding="utf-8") == pages.page(report)


def test_cameras(model: Path, clip: Path, tmp_path: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "figures.json"
    arguments = ("--streams", 2, "--fps", 20, "--seconds", 0.5, "--workers", 1, "--html", page, "--json", file)
    code, said, complaints = run("streams", model, clip, *arguments)
    assert code == 0, complaints
    report = json.loads(file.read_text())
    assert (report["streams"], report["offered"], report["workers"]) == (2, 20, 1)
    assert report["threads"] == Settings().threads
    assert report["results"] + report["dropped"] == 20
    assert "2 cameras at 20 frames a second" in " ".join(said.split())
    assert page.read_text(encoding="utf-8") == pages.page(report)


def test_without_the_extra_it_says_what_is_missing_and_goes_on(model, tmp_path, monkeypatch) -> None:
    for module in (bench, reports):
        monkeypatch.setattr(module, "installed", lambda name: None if name in ("openvino", "matplotlib") else "1")
    monkeypatch.setattr(openvino_engine, "openvino", None)
    monkeypatch.setattr(plots, "available", lambda: False)
    page, file = tmp_path / "page.html", tmp_path / "figures.json"
    code, _, complaints = run("dense", model, "--rounds", 1, "--html", page, "--json", file)
    assert code == 0, complaints
    assert "openvino is not installed and is left out; pip install openvino matplotlib" in complaints
    assert "matplotlib is not installed; pip install" in complaints
    row = json.loads(file.read_text())["models"][0]
    assert row["openvino_ms"] is None
    assert "not installed" in row["openvino_reason"]
    assert row["ratio_best"] == row["onnxruntime_ratio"]
    assert "<svg" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("dense", "people", "--against", "tensorrt"), 2, "expected some of onnxruntime, openvino, got 'tensorrt'"),
        (("dense", "people", "--precision", "int8"), 2, "expected float32 or bfloat16, got 'int8'"),
        (("dense", "synthetic:lenet"), 1, "expected one of synthetic:vgg16"),
        (("dense", "missing.onnx"), 1, "missing.onnx"),
        (("video", "people", "missing.mp4"), 1, "missing.mp4: no such file"),
        (("video", "people", "missing.mp4@5+0"), 2, "got 'missing.mp4@5+0'"),
        (("streams", "people", "missing.mp4"), 1, "missing.mp4: no such file"),
    ],
    ids=["engine", "precision", "network", "model", "clip", "stretch", "cameras"],
)
def test_what_goes_wrong_is_said_in_one_line(arguments, code, said) -> None:
    found, _, complaints = run(*arguments)
    assert (found, said in complaints.replace("│ ", "").replace(" │", "")) == (code, True), complaints


def test_a_busy_machine_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.Bystanders, "cores", lambda self: 1.5)
    code, said, complaints = run("dense", model, "--rounds", 1, "--against", "", "--json", "-")
    assert code == 0
    assert "other programs kept 1.5 cores busy meanwhile" in complaints
    assert json.loads(said)["machine"]["other_programs_cores"] == 1.5


def test_one_frame_is_no_clip_to_play(model: Path, clip: Path) -> None:
    code, _, complaints = run("streams", model, clip / "0.png")
    assert code == 1
    assert "expected at least 2 frames to play, got 1" in complaints


def test_a_missing_package_is_known_by_its_name() -> None:
    assert bench.installed is machine.installed
    assert machine.installed("onnxruntime")
