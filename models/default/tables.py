"""Prints the reports of `evaluate` and `clips` as tables. Knows their keys, and nothing of how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from models.default.metrics import SIZE_BINS
from models.default.pack import LABELS

Report = Mapping[str, Any]


def show_evaluation(report: Report, console: Console | None = None) -> None:
    """The report of `models.default.evaluate.evaluate`."""
    out = console or Console(width=160)
    rows = {**report["models"], **{f"({name})": figures for name, figures in report.get("references", {}).items()}}
    size = "x".join(map(str, report["size"]))
    for table in (
        _groups(rows, f"AP50 (truths) on {report['pictures']} validation pictures, {size}, {report['engine']}"),
        _operating(rows),
        _sizes(rows),
        _sources(rows),
        _clips(report["models"]),
    ):
        if table.row_count:
            out.print(table)


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _ap(figures: Report, label: str) -> str:
    found = figures.get(label)
    return "" if found is None else f"{number(found['ap50'])} ({found['truths']})"


def _groups(rows: Report, title: str) -> Table:
    table = _table(title, ["model", "pictures", *LABELS])
    names = {"all": "all", "human": "labelled by people", "teachers": "labelled by teachers"}
    for name, figures in rows.items():
        for group, shown in names.items():
            if figures["val"][group]:
                table.add_row(name, shown, *(_ap(figures["val"][group], label) for label in LABELS))
    return table


def _operating(rows: Report) -> Table:
    table = _table(
        "All pictures at the operating score",
        ["model", "class", "score", "precision", "recall", "F1", "best F1 at score"],
    )
    for name, figures in rows.items():
        for label, found in figures["val"]["all"].items():
            best = f"{number(found['best_f1'])} at {number(found['best_threshold'], 2)}"
            at = (number(found[key]) for key in ("precision", "recall", "f1"))
            table.add_row(name, label, number(figures["threshold"], 2), *at, best)
    return table


def _sizes(rows: Report) -> Table:
    table = _table("AP50 (truths) by size of the truth, px at the input", ["model", "class", *SIZE_BINS])
    for name, figures in rows.items():
        for label, found in figures["val"]["all"].items():
            table.add_row(name, label, *(_ap(found["sizes"], size) for size in SIZE_BINS))
    return table


def _sources(rows: Report) -> Table:
    table = _table("AP50 (truths) by source", ["source", "class", *rows])
    sources: dict[str, None] = {}
    for figures in rows.values():
        sources |= dict.fromkeys(figures["val"]["sources"])
    for source in sources:
        for label in LABELS:
            cells = [_ap(figures["val"]["sources"].get(source, {}), label) for figures in rows.values()]
            if any(cell and not cell.endswith("(0)") for cell in cells):
                table.add_row(source, label, *cells)
    return table


def _clips(models: Report) -> Table:
    table = _table(
        "Agreement with YOLOX-nano's strong boxes, IoU .5",
        ["clip", "frames", "class", "model", "truths", "F1", "precision", "recall", "strict F1", "best F1 at score"],
    )
    for name, figures in models.items():
        for file, clip in figures["clips"].items():
            for part, found in clip["parts"].items():
                at = (number(found[key]) for key in ("f1", "precision", "recall", "strict_f1"))
                best = f"{number(found['best_f1'])} at {number(found['best_threshold'], 2)}"
                frames = f"{part} ({found['frames']})"
                table.add_row(file, frames, clip["label"], name, str(found["truths"]), *at, best)
    return table


def show_clips(report: Report, console: Console | None = None) -> None:
    """The report of `models.default.clips.measure`."""
    out = console or Console(width=160)
    factors = sorted(
        {factor for figures in report["models"].values() for factor in figures["together"]["factors"]}, key=float
    )
    size = "x".join(map(str, report["size"]))
    out.print(_frontier(report["models"], f"Frontier at {size}, {report['frames']} frames of each clip"))
    out.print(_by_clip(report["models"], factors))


def _frontier(models: Report, title: str) -> Table:
    table = _table(
        title, ["model", "MMAC", "ms ours", "ms ORT", "16 px tile", "k", "fraction", "agreement", "floor", "MMAC left"]
    )
    for name, figures in models.items():
        together, times = figures["together"], figures["dense_ms"]
        factor = together["chosen"]
        shown = factor if factor is not None else min(map(float, together["factors"]))
        at = together["factors"][f"{shown:g}"]
        left = figures["macs_left"]
        table.add_row(
            name,
            number(figures["macs"] / 1e6, 0),
            number(times["ours"], 1),
            number(times["onnxruntime"], 1),
            f"{figures['tile_share']:.0%}",
            f"none ({shown:g} shown)" if factor is None else f"{factor:g}",
            _fraction(at),
            _both(at.get("agreement")),
            _both(together["noise_floor"]),
            "-" if left is None else number(left / 1e6, 0),
        )
    return table


def _by_clip(models: Report, factors: Sequence[str]) -> Table:
    table = _table(
        "Compute fraction mean (median), agreement at IoU .5 / .75, by factor on the thresholds",
        ["clip", "model", "boxes", "floor", *(f"k = {factor}" for factor in factors), "k chosen"],
    )
    for name, figures in models.items():
        for clip, found in {**figures["clips"], "all": figures["together"]}.items():
            cells = [
                f"{_fraction(found['factors'][factor])}\n{_both(found['factors'][factor]['agreement'])}"
                for factor in factors
            ]
            best = "-" if found["chosen"] is None else f"{found['chosen']:g}"
            table.add_row(clip, name, str(found["strong_boxes"]), _both(found["noise_floor"]), *cells, best)
    return table


def _fraction(figures: Report) -> str:
    found = figures.get("compute_fraction")
    return "-" if found is None else f"{found['mean']:.1%} ({found['median']:.1%})"


def _both(figures: Report | None) -> str:
    return "-" if figures is None else f"{figures['iou50']:.3f}/{figures['iou75']:.3f}"
