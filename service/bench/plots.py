"""Plots as inline SVG, by matplotlib where it is installed. Colours are CSS variables: a page has dark ones too."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

WIDTH_IN = 3.7
"""Narrow, so that text is large enough to read where a phone shrinks the plot to its screen."""

# Colours that matplotlib is told, and what stands in the page in their place.
_INK, _FAINT, _PANEL = "#010203", "#040506", "#030507"
_SERIES = ("#070801", "#070802", "#070803", "#070804", "#070805")
_VARIABLES = {_INK: "var(--ink)", _FAINT: "var(--faint)", _PANEL: "var(--panel)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)
}
_IDS = re.compile(r' id="(?:figure|axes|patch|text|line2d|matplotlib\.axis|xtick|ytick|legend|LineCollection)_\d+"')


def available() -> bool:
    """Whether plots can be drawn."""
    return find_spec("matplotlib") is not None


def bars(labels: Sequence[str], groups: Mapping[str, Sequence[float | None]], axis: str, mark: float | None) -> str:
    """Horizontal bars, a group of them for each label; a value of None has none.

    mark : where a line is drawn, as at a ratio of 1
    """

    def draw(axes: Any) -> None:
        height = 0.8 / max(1, len(groups))
        for number, (name, values) in enumerate(groups.items()):
            places = [row + number * height for row, value in enumerate(values) if value is not None]
            shown = [value for value in values if value is not None]
            drawn = axes.barh(places, shown, height * 0.9, color=_SERIES[number % len(_SERIES)], label=name)
            # A patch of the background keeps the line at `mark` out of the digits.
            patch = {"facecolor": _PANEL, "edgecolor": "none", "pad": 0.5}
            axes.bar_label(drawn, [f"{v:.2f}" for v in shown], padding=3, fontsize=8, color=_INK, bbox=patch)
        axes.set_yticks([row + height * (len(groups) - 1) / 2 for row in range(len(labels))], labels)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.margins(x=0.14, y=0.02)
        if mark is not None:
            axes.axvline(mark, color=_INK, linewidth=1, zorder=1.5)
        _legend(axes, len(groups))

    return _svg(draw, 0.8 + 0.22 * len(labels) * (1 + len(groups)))


def lines(series: Mapping[str, Sequence[float]], x_axis: str, y_axis: str, *, logarithmic: bool = False) -> str:
    """One line for each series over 0, 1, 2..."""

    def draw(axes: Any) -> None:
        for number, (name, values) in enumerate(series.items()):
            axes.plot(range(len(values)), values, color=_SERIES[number % len(_SERIES)], linewidth=1.2, label=name)
        if logarithmic:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        _legend(axes, len(series))

    return _svg(draw, 3.0)


def frontier(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    chosen: tuple[float, float],
    mark: float,
    x_axis: str,
    y_axis: str,
) -> str:
    """Curves through points (x, y), one point for what was chosen, and a dashed line at x = `mark`."""

    def draw(axes: Any) -> None:
        for number, (name, points) in enumerate(curves.items()):
            ordered = sorted(points)
            axes.plot(
                *zip(*ordered, strict=True), marker="o", markersize=3, linewidth=1.2, color=_SERIES[number], label=name
            )
        axes.plot(*chosen, marker="o", markersize=8, color=_SERIES[1])
        axes.axvline(mark, color=_INK, linewidth=1, linestyle="--")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        _legend(axes, len(curves))

    return _svg(draw, 3.0)


def distribution(values: Sequence[float], axis: str, mark: float | None) -> str:
    """The share of values up to each value."""

    def draw(axes: Any) -> None:
        ordered = np.sort(np.asarray(values, np.float64))
        share = np.arange(1, ordered.size + 1) / ordered.size
        axes.step(ordered, share, where="post", color=_SERIES[0], linewidth=1.2)
        if mark is not None:
            axes.axvline(mark, color=_INK, linewidth=1)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(axis)
        axes.set_ylabel("share of results")

    return _svg(draw, 2.8)


def _legend(axes: Any, count: int) -> None:
    if count > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False, labelcolor=_INK)


def _svg(draw: Callable[[Any], None], height_in: float) -> str:
    """The SVG element of one plot. Raises ImportError without matplotlib; see `available`."""
    from matplotlib import rc_context  # optional, and slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.xaxis.label.set(color=_INK, fontsize=9)
    axes.yaxis.label.set(color=_INK, fontsize=9)
    axes.spines[:].set_color(_FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color=_FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    draw(axes)
    axes.tick_params(which="both", colors=_INK, labelsize=8)  # a logarithmic axis, once chosen, has minor ticks too
    written = io.StringIO()
    # Text stays text: it can be selected, and takes the page's font.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "afterimage"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    element = _IDS.sub("", text[text.index("<svg") :])
    for colour, variable in _VARIABLES.items():
        element = element.replace(colour, variable)
    size = re.compile(r' (?:width|height)="[\d.]+pt"')
    head, close, rest = element.partition(">")
    return size.sub("", head) + close + rest
