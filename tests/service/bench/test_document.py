"""Marked sections are replaced, and nothing else is touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from reports import (
    dense_report,
    dense_row,
    streams_report,
    technique_row,
    techniques_report,
    video_report,
)

from service.bench import document
from service.bench.document import (
    DocumentError,
    boxes_said,
    dense_section,
    millijoules,
    replaced,
    techniques_section,
    update,
    video_section,
)

TEXT = """# Title

before

<!-- bench:dense -->
old
<!-- /bench:dense -->

between

<!-- bench:video -->
<!-- /bench:video -->

after
"""


def test_only_what_lies_between_the_markers_is_replaced():
    found = replaced(TEXT, "dense", "new\n")
    assert found == TEXT.replace("\nold\n", "\n\nnew\n\n")


def test_twice_is_the_same_as_once():
    reports = [dense_report(), video_report()]
    once = update(TEXT, reports)
    assert update(once, reports) == once
    assert once.startswith("# Title\n\nbefore\n\n<!-- bench:dense -->\n\n## Whole frames")
    assert once.endswith("<!-- /bench:video -->\n\nafter\n")


def test_a_kind_without_a_report_keeps_its_section():
    found = update(TEXT, [video_report(), streams_report()])
    assert "\nold\n" in found
    assert "street.mp4" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("<!-- bench:dense -->", ""), "once each, got 0 and 1"),
        (TEXT + TEXT, "once each, got 2 and 2"),
        ("<!-- /bench:dense -->\n<!-- bench:dense -->", "before"),
    ],
    ids=["none", "twice", "the wrong way round"],
)
def test_markers_that_are_wrong(text, said):
    with pytest.raises(DocumentError, match=said):
        replaced(text, "dense", "new")


def test_whole_frames_as_markdown():
    found = dense_section([dense_report(dense_row(), dense_row("a|b", None)), dense_report(threads=2)])
    assert (
        "| model | size | GMAC | threads | ours, ms | ONNX Runtime, ms | OpenVINO, ms | ratio | from tensor |" in found
    )
    assert "| people | 640x384 | 0.82 | 1 | 8.00 | 10.00 | – | 1.25 | 1.50 |" in found
    assert "| a\\|b | 640x384 | 0.82 | 1 | 8.00 | 10.00 | – | – | 1.50 |" in found
    assert "Geometric mean of the ratio: 1.25 with 1 thread, float32, 1.25 with 2 threads, float32." in found
    assert found.count("OpenVINO on people: not installed.") == 1
    assert "Machine: Some CPU <1>, 2 cores; ONNX Runtime 1.20.0." in found


def test_clips_as_markdown():
    found = video_section([video_report(), video_report(best=None, ratio=None, agreement=None, bit_identical=False)])
    cells = "people, 640x384 | street.mp4 200+100/2 | 1 | 12.3% |"
    assert f"| {cells} 1.000 / 0.997 | 2.50 | 2.50 (ONNX Runtime) | 4.25 | 3.12 | 1.06 | 81.2% | yes |" in found
    assert f"| {cells} no boxes | 2.50 | – | – | 3.12 | 1.06 | 81.2% | no |" in found


def test_the_tool_writes_the_file(tmp_path):
    page, report = tmp_path / "page.md", tmp_path / "report.json"
    page.write_text(TEXT, encoding="utf-8")
    report.write_text(json.dumps(dense_report()), encoding="utf-8")
    app = Typer()
    app.command()(document.main)
    done = CliRunner().invoke(app, [str(page), str(report)])
    assert done.exit_code == 0, done.output
    assert page.read_text(encoding="utf-8") == update(TEXT, [dense_report()])


PLACES = {
    "dense": "performance.md", "video": "performance.md", "techniques": "techniques/README.md",
    "im2col": "techniques/direct.md", "deepmon": "techniques/caching.md",
}  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_the_product_s_own_documents_have_their_markers(kind):
    text = (Path(__file__).parents[3] / "docs" / PLACES[kind]).read_text(encoding="utf-8")
    assert replaced(text, kind, "x") != text
    assert set(document.KINDS) <= set(PLACES)


def test_techniques_have_a_row_each_and_reasons_below():
    text = techniques_section([techniques_report(technique_row(), technique_row("all", note="without decomposition"))])
    assert "40 frames of `street.mp4` from 200 on; float32." in text
    assert "Decomposed after other frames of the clip." in text
    assert "street.mp4` from 200 on, one in 2;" in techniques_section([techniques_report(every=2)])
    assert "### people, 640x384, 1 thread" in text
    assert "Times as fast as caching alone: all together 1.62, without float16 2.00." in text
    row = "| + caching <on> | 2.25 | 9.75 | 400.0 | 3.50 | 15.5% | 2.0 + 1.0 + 0.5 | ~2.5 | 1.000 / 0.997 | 1.5e-02 |"
    assert row in text
    assert "- + FFT: no kernel of 7x7 or more in this model.\n" not in text.split("| technique")[0]
    assert "- + FFT: no kernel of 7x7 or more in this model." in text
    assert "- + all <on>: without decomposition." in text
    assert text.endswith("Energy estimated: some pJ.")
    report = techniques_report()
    report["models"][0] |= {"float32_over_caching": None}
    assert "Times as fast as caching alone: all together 1.62." in techniques_section([report])
    marked = "<!-- bench:techniques --><!-- /bench:techniques -->"
    assert "| + caching <on> |" in update(marked, [techniques_report()])


def test_energy_and_boxes_as_text():
    assert millijoules(technique_row(energy="rapl")) == "2.5"
    assert millijoules(technique_row(joules=None, energy=None)) == "–"
    assert boxes_said(None) == "no boxes"
