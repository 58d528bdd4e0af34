"""A page says what its figures say, loads nothing, and does without plots."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from reports import (
    dense_report,
    dense_row,
    streams_report,
    technique_row,
    techniques_report,
    video_report,
)

from service.bench import plots
from service.bench.report import page, table


def clips_report():
    """Two clips in one report."""
    return {"kind": "clips", "clips": [video_report(), video_report(start=5)], "machine": video_report()["machine"]}


REPORTS = {
    "dense": dense_report, "video": video_report, "clips": clips_report, "streams": streams_report,
    "techniques": techniques_report,
}  # fmt: skip
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Checks that tags are closed in order; keeps texts, and whatever would load something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.loads, self.tags = [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


@pytest.mark.parametrize("kind", REPORTS)
def test_a_page_is_whole_and_loads_nothing(kind):
    text = page(REPORTS[kind]())
    reader = Reader(text)
    assert reader.loads == []
    assert "script" not in reader.tags
    assert "url(http" not in text
    assert "svg" in reader.tags
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "Some CPU <1>, 2 core(s)" in " ".join(reader.texts)
    assert "Some CPU &lt;1&gt;" in text
    assert "Meanwhile other programs kept 0.25 cores busy." in text


@pytest.mark.parametrize("kind", REPORTS)
def test_without_matplotlib_the_tables_remain(kind, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    reader = Reader(page(REPORTS[kind]()))
    assert "svg" not in reader.tags
    assert "table" in reader.tags
    assert any("matplotlib is not installed; pip install" in text for text in reader.texts)


def test_whole_frames_say_times_ratios_and_reasons():
    node = {
        "name": "Conv_2", "op": "conv", "shape": [32, 96, 160], "ms": 0.25, "share_of_time": 0.5, "gflops": 158.81,
        "share_of_peak": 0.7116,
    }  # fmt: skip
    reader = Reader(page(dense_report(dense_row(nodes=[node]), dense_row("yolox <nano>", 0.75))))
    said = reader.texts
    for text in ("people", "8.00", "10.00", "1.25", "0.75", "–", "people: OpenVINO: not installed", "yolox <nano>"):
        assert text in said, text
    for text in (
        "Conv_2",
        "32x96x160",
        "158.81",
        "71.2%",
        "50.0%",
        "people, node by node: the 1 that take the most time",
        "cv2.LUT",
    ):
        assert text in said, text


def test_a_clip_says_ratios_agreement_and_conversion():
    said = Reader(page(video_report(reasons={"onnxruntime": None, "openvino": "no such op"}))).texts
    for text in ("4.25", "3.12", "1.06", "1.000 / 0.997", "12.3% / 10.0%", "81.2%", "yes", "OpenVINO: no such op"):
        assert text in said, text


def test_cameras_say_how_many_fit_and_what_was_tried():
    said = Reader(page(streams_report())).texts
    for text in ("4 cameras", "12.50", "87.50", "1 of 300", "14.97", "25.0%", "yes"):
        assert text in said, text


def test_techniques_say_figures_notes_and_reasons():
    said = Reader(page(techniques_report(technique_row(note="first half"), technique_row("im2col", joules=None)))).texts
    for text in (
        "people, 640x384, 1 thread", "+ caching <on>", "2.25", "9.75", "400.00", "3.50", "15.5%", "2.00", "1.00",
        "0.50", "1.000 / 0.997", "0.015", "+ caching <on>: first half", "–",
        "+ FFT: no kernel of 7x7 or more in this model",
    ):  # fmt: skip
        assert text in said, text
    assert any("Energy estimated: some pJ." in text for text in said)


def test_cells_by_hand():
    text = table(["name", "n"], [["a<b", 0.0123], [None, 3], ["c", 2.5]])
    assert "<td>a&lt;b</td><td>0.0123</td>" in text
    assert "<td>–</td><td>3</td>" in text
    assert "<td>c</td><td>2.50</td>" in text
