"""A day as a picture: load, what was lost, moves and refusals, an SVG whose colours differ in lightness too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
"""After Okabe and Ito: distinct to all kinds of colour vision."""
MARKS = {"rack": ("rack lost", RED, "v"), "failure": ("box lost", GREY, "|"), "update": ("rolling update", GREEN, "|")}
BIN_MINUTES = 5
STYLE = {"svg.hashsalt": "afterimage", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
_LEAST = 1e-5


def draw(report: Mapping[str, Any], file: Path) -> None:
    """Four panels over the hours of the day, of all clusters of a report of `benchmarks.scale`."""
    days: Sequence[Mapping[str, Any]] = report["days"]
    main = next(day for day in days if day["main"])
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 10.5), layout="constrained")
        load, use, lost, moved = figure.subplots(4, 1, sharex=True, height_ratios=(1.1, 1.2, 1.2, 1.2))
        _load(load, main)
        _use(use, main, report)
        _lost(lost, days)
        _moves(moved, main)
        moved.set_xlabel("hour of the day")
        moved.set_xlim(0, 24)
        moved.set_xticks(range(0, 25, 2))
        for axes in (load, use, lost, moved):
            axes.grid(alpha=0.25, linewidth=0.6)
        figure.savefig(file, metadata={"Date": None})


def _load(axes: Axes, day: Mapping[str, Any]) -> None:
    hours = _hours(day)
    axes.plot(hours, _binned(day, "connected", np.mean), color=BLUE, label="streams that want to be served")
    axes.set_ylabel("streams")
    axes.set_ylim(0)
    boxes = axes.twinx()
    boxes.plot(hours, _binned(day, "alive", np.min), color=ORANGE, label="boxes alive (right)", linestyle="--")
    boxes.set_ylabel("boxes")
    boxes.set_ylim(0, day["boxes"] * 1.15)
    handles = [*axes.get_lines(), *boxes.get_lines()]
    axes.legend(handles, [str(line.get_label()) for line in handles], loc="lower right", fontsize=8)
    axes.set_title(f"{day['title']}: streams and boxes", loc="left", fontsize=9)


def _use(axes: Axes, day: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    hours = _hours(day)
    middle, high = (100 * _binned(day, key, np.mean) for key in ("used_p50", "used_p99"))
    axes.fill_between(hours, middle, high, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(hours, high, color=BLUE, label="busiest 1% of boxes (p99)")
    axes.plot(hours, middle, color=BLUE, linestyle="--", label="median box")
    axes.axhline(100 * (1 - report["plan"]["terms"]["headroom"]), color=RED, linewidth=1, linestyle=":",
                 label="admission's bound")  # fmt: skip
    axes.axhline(100 * report["plan"]["full_utilisation"], color=GREY, linewidth=1, linestyle="-.",
                 label="full box, by the plan")  # fmt: skip
    axes.set_ylim(0, 105)
    axes.set_ylabel("workers' time used, %")
    axes.legend(loc="lower right", fontsize=8, ncols=2)
    axes.set_title(f"{day['title']}: load of boxes, means of {BIN_MINUTES} minutes", loc="left", fontsize=9)


def _lost(axes: Axes, days: Sequence[Mapping[str, Any]]) -> None:
    styles = ((BLUE, "-"), (ORANGE, "--"), (RED, "-."), (GREEN, ":"), (GREY, "-"), (PINK, "-"))
    for day, (colour, style) in zip(days, styles, strict=False):
        missed = _binned(day, "lost", np.mean) + _binned(day, "unserved", np.mean)
        axes.plot(_hours(day), 100 * np.maximum(missed, _LEAST), color=colour, linestyle=style, label=day["title"])
    axes.set_yscale("log")
    axes.set_ylim(100 * _LEAST, 30)
    axes.set_ylabel("frames lost or unserved, %")
    axes.legend(loc="upper left", fontsize=8)
    axes.set_title(f"frames without a result, means of {BIN_MINUTES} minutes ({100 * _LEAST:g}% or less at the floor)",
                   loc="left", fontsize=9)  # fmt: skip


def _moves(axes: Axes, day: Mapping[str, Any]) -> None:
    hours = _hours(day)
    moves = _binned(day, "moves", np.sum)
    axes.bar(hours, moves, width=BIN_MINUTES / 60, color=BLUE, label="streams moved")
    top = max(10.0, float(moves.max()))
    axes.plot(hours, _binned(day, "refused", np.sum), color=RED, linewidth=1, label="refusals")
    for what, (label, colour, marker) in MARKS.items():
        at = [each["at_s"] / 3600 for each in day["incidents"] if each["what"] == what]
        axes.plot(at, [top * 8] * len(at), linestyle="none", marker=marker, color=colour, label=label, markersize=7)
    axes.set_yscale("symlog", linthresh=10, linscale=0.6)
    axes.set_ylim(0, top * 20)
    axes.set_ylabel(f"in {BIN_MINUTES} minutes")
    axes.legend(loc="center", fontsize=8, ncols=2, bbox_to_anchor=(0.36, 0.62))
    axes.set_title(f"{day['title']}: moves, refusals, and what happened", loc="left", fontsize=9)


def _binned(day: Mapping[str, Any], key: str, of: Any) -> Any:
    values = np.asarray(day["minutes"][key], np.float64)
    whole = values[: values.size // BIN_MINUTES * BIN_MINUTES]
    return of(whole.reshape(-1, BIN_MINUTES), axis=1)


def _hours(day: Mapping[str, Any]) -> Any:
    count = len(day["minutes"]["connected"]) // BIN_MINUTES
    return (np.arange(count) + 0.5) * BIN_MINUTES / 60
