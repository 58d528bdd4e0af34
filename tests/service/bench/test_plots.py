"""Plots are SVG with the page's colours, their numbers as text, and no identifiers that could clash."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from service.bench import plots

DRAWN = {
    "bars": lambda: plots.bars(["people", "vgg16"], {"ONNX Runtime": [1.25, 0.5], "OpenVINO": [None, 2.0]}, "x", 1.0),
    "lines": lambda: plots.lines({"ours": [3, 2, 1], "theirs": [9, 9, 9]}, "frame", "ms", logarithmic=True),
    "shares": lambda: plots.lines({"ours": [30, 20, 10]}, "frame", "% of the work"),
    "distribution": lambda: plots.distribution([3.0, 1.0, 2.0], "age, ms", 200.0),
}


def words(svg):
    return [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]


@pytest.mark.parametrize("kind", DRAWN)
def test_every_plot_is_an_element_that_scales_with_the_page(kind):
    svg = DRAWN[kind]()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "height" not in root.attrib
    assert not re.search(r'id="(figure|axes|patch|text)_\d', svg)


@pytest.mark.parametrize("kind", DRAWN)
def test_colours_are_those_of_the_page(kind):
    svg = DRAWN[kind]()
    assert "var(--ink)" in svg
    assert "var(--series-1)" in svg
    assert not re.findall(r"#[0-9a-f]{6}", svg)


def test_bars_carry_labels_and_values_and_leave_out_what_is_not_there():
    said = words(DRAWN["bars"]())
    assert {"people", "vgg16", "ONNX Runtime", "OpenVINO", "1.25", "0.50", "2.00"} <= set(said)
    assert "nan" not in " ".join(said).lower()


def test_one_line_needs_no_legend_and_two_do():
    assert {"ours", "theirs"} <= set(words(DRAWN["lines"]()))
    assert "ours" not in words(DRAWN["shares"]())


def test_the_limit_is_on_the_plot_even_where_all_ages_are_far_below():
    numbers = [float(text) for text in words(DRAWN["distribution"]()) if re.fullmatch(r"\d+(\.\d+)?", text)]
    assert max(numbers) >= 200


def test_the_same_plot_is_the_same_text():
    assert DRAWN["bars"]() == DRAWN["bars"]()
