"""`afterimage bench techniques` as a person types it, on a tiny model and few frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from own_model import write_model
from typer.testing import CliRunner

from service.cli import make_app
from service.commands import techniques

runner = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.onnx")


def run(*arguments: object) -> tuple[int, str, str]:
    result = runner.invoke(make_app(), ["bench", "techniques", *map(str, arguments)])
    return result.exit_code, " ".join(result.stdout.split()), " ".join(result.stderr.split())


def test_table_json_and_document(model: Path, tmp_path: Path) -> None:
    file, document = tmp_path / "figures.json", tmp_path / "page.md"
    document.write_text("before\n<!-- bench:techniques -->\nold\n<!-- /bench:techniques -->\nafter\n")
    code, said, complaints = run(
        model, "scene", "--frames", 3, "--rows", "im2col, caching,fft", "--threads", 1, "--threads", 2,
        "--json", file, "--markdown", document,
    )  # fmt: skip
    assert code == 0, complaints
    report = json.loads(file.read_text())
    assert [(one["model"], one["clip"], one["threads"], one["frames"]) for one in report["models"]] == [
        ("tiny", "scene", 1, 3), ("tiny", "scene", 2, 3),
    ]  # fmt: skip
    assert [row["key"] for row in report["models"][0]["rows"]] == ["im2col", "direct", "fft", "caching"]
    assert "tiny, 96x64, 3 frames of scene, 1 thread" in said
    assert "no kernel of 7x7 or more in this model" in said
    text = document.read_text(encoding="utf-8")
    assert "| im2col + BLAS |" in text
    assert "old" not in text
    assert text.startswith("before")


def test_frames_that_a_compression_looks_at_are_not_those_that_are_measured(tmp_path: Path) -> None:
    for number in range(80):
        cv2.imwrite(str(tmp_path / f"{number:03d}.png"), np.full((16, 16, 3), number, np.uint8))
    found = techniques.other_frames(str(tmp_path), 20, 40)
    assert found is not None
    levels = [int(image[0, 0, 0]) for image in found]
    assert len(levels) == techniques.techniques.SAMPLES
    assert not set(levels) & set(range(20, 40))
    assert levels[0] == 0 < 60 < levels[-1]
    assert techniques.other_frames(str(tmp_path), 0, 60) is None, "twenty are left, which is too few"
    after = techniques.other_frames("scene", 0, 2)
    assert after is not None
    assert len(after) == techniques.techniques.SAMPLES


def test_without_a_model_it_takes_ours_and_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(models, clip, **options):
        asked.append((tuple(models), clip, options["threads"]))
        return {"kind": "techniques", "models": [], "machine": {"other_programs_cores": None}}

    monkeypatch.setattr(techniques, "measured", measured)
    assert run()[0] == 0
    assert run("some.onnx", "clip.mp4", "--threads", 2)[0] == 0
    assert asked == [(("people", "synthetic:vgg16"), "scene", (1,)), (("some.onnx",), "clip.mp4", (2,))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rows", "im2col,nothing"), "expected rows among"),
        (("--frames", "1"), "--frames"),
    ],
)
def test_what_cannot_be_measured_is_said(model: Path, arguments: tuple[str, ...], said: str) -> None:
    code, _, complaints = run(model, "scene", *arguments)
    assert code != 0
    assert said in complaints


def test_a_compressed_model_that_is_not_there_is_missed_before_anything_is_measured(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(techniques, "open_any", lambda *arguments: pytest.fail("opened"))
    code, _, complaints = run(model, "scene", "--compressed", tmp_path / "missing.onnx")
    assert code == 1
    assert "no such file" in complaints


def test_a_document_without_markers_is_refused_before_anything_is_measured(model: Path, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("nothing")
    code, _, complaints = run(model, "scene", "--markdown", document)
    assert code == 1
    assert "page.md: expected" in complaints
    assert "once each, got 0 and 0" in complaints


def test_a_clip_of_one_frame_is_refused(model: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((64, 96, 3), np.uint8))
    folder = tmp_path / "clip"
    folder.mkdir()
    (tmp_path / "0.png").rename(folder / "0.png")
    code, _, complaints = run(model, folder)
    assert code == 1
    assert "at least 2 frames" in complaints
