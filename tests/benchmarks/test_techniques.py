"""The ablation's page and plot, of a report by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "service" / "bench"))

from reports import technique_row, techniques_report

from benchmarks import techniques as subject
from service.bench.document import DocumentError


def test_page_and_plot_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(models, clip, **options):
        asked.append((*models, options["size"], clip, options["threads"], options["error"]))
        return techniques_report(technique_row("im2col"), technique_row("caching"))

    monkeypatch.setattr(subject.techniques, "measured", measured)
    page = tmp_path / "README.md"
    page.write_text("# Title\n<!-- bench:techniques -->\nold\n<!-- /bench:techniques -->\n")
    app = Typer()
    app.command()(subject.command)
    done = CliRunner().invoke(app, ["--model", "yolox_nano.onnx@640x384", "--doc", str(page), "--error", "0.04"])
    assert done.exit_code == 0, done.output
    names = [*subject.MODELS, "yolox_nano.onnx"]
    sizes = [None] * len(subject.MODELS) + ["640x384"]
    assert asked == [(name, size, "scene", (1, 2), 0.04) for name, size in zip(names, sizes, strict=True)]
    text = page.read_text(encoding="utf-8")
    assert "![Median time of each technique](ablation.svg)" in text
    assert "| + im2col <on> |" in text
    assert "old" not in text
    assert text.count("### ") == len(names)
    assert "<svg" in (tmp_path / "ablation.svg").read_text(encoding="utf-8")


def test_a_page_without_markers_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("nothing")
    with pytest.raises(DocumentError):
        subject.command(page=page)
