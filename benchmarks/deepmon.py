"""DeepMon's rule of caching against ours on a clip: `python -m benchmarks.deepmon [MODEL] [CLIP] [--document FILE]`.

One row for ours within the budget, one for ours exact, and one for DeepMon's rule at each share of the convolutions
that it caches. Same kernels, same frames, in turn; compared with the whole frame in float32, frame by frame.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.bench.deepmon import Rule
from service.bench.document import boxes_said, replaced
from service.bench.machine import machine
from service.bench.techniques import techniques
from service.commands.common import SOURCE_HELP, parse_size
from service.commands.reports import model_name, open_any
from service.sources import open_source

SHARES = (0.25, 0.5, 0.75, 1.0)
HEAD = ("rule", "p50, ms", "p99, ms", "work", "agreement .5 / .75", "error, mean", "error, largest", "drift")


def measured(
    model: str, clip: str, size: str | None, start: int, frames: int, threads: int, rules: list[Rule]
) -> list[dict[str, Any]]:
    """A row for each rule, behind two of ours and one of whole frames."""
    opened = open_any(model, parse_size(size))
    with open_source(clip, start=start, frames=frames) as source:
        images = [frame.image for frame in source]
    rows: list[dict[str, Any]] = []
    for number, rule in enumerate(rules):
        only = ("direct", "winograd", "exact", "caching", "deepmon") if number == 0 else ("deepmon",)
        found = techniques(opened, images, source=model, threads=threads, only=only, rule=rule)
        for row in found["rows"]:
            if row["key"] == "direct" or row["reason"] is not None:
                continue
            label = row["label"].removeprefix("+ ") if row["key"] != "deepmon" else f"DeepMon: {row['note']}"
            rows.append(row | {"label": "whole frames" if row["key"] == "winograd" else label})
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    """A row as text."""
    drift = "–" if row["drift"] is None else f"{row['drift']:.2f}"
    return [
        row["label"], f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['work']:.1%}",
        boxes_said(row["agreement"]), f"{row['error_mean']:.1e}", f"{row['error_max']:.1e}", drift,
    ]  # fmt: skip


def section(rows: list[dict[str, Any]], model: str, clip: str, frames: int, threads: int) -> str:
    """What stands between the markers of docs/techniques/caching.md."""
    lines = [list(HEAD), ["---"] * len(HEAD), *(cells(row) for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    count = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"{model_name(model)} on {frames} frames of `{Path(clip).name}`; {machine()['cpu']}, {count}.\n\n{table}"


def command(
    model: Annotated[str, typer.Argument(help="ONNX file, or a name of a model.")] = "people",
    clip: Annotated[str, typer.Argument(help=SOURCE_HELP)] = "scene",
    size: Annotated[str | None, typer.Option(metavar="WxH")] = None,
    start: Annotated[int, typer.Option(min=0)] = 0,
    frames: Annotated[int, typer.Option(min=2)] = 150,
    threads: Annotated[int, typer.Option(min=1, max=64)] = 1,
    block_px: Annotated[int, typer.Option(help="Edge of a block.")] = Rule().block_px,
    distance: Annotated[float, typer.Option(help="Chi-square distance above which a block changed.")] = Rule().distance,
    renew_frames: Annotated[int, typer.Option(help="Everything anew after so many frames; 0 for never.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    document: Annotated[Path | None, typer.Option(help="Document whose section between markers is rewritten.")] = None,
) -> None:
    """Our caching and DeepMon's rule, side by side."""
    rules = [Rule(block_px, distance=distance, layers=share, renew_frames=renew_frames) for share in SHARES]
    rows = measured(model, clip, size, start, frames, threads, rules)
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        text = document.read_text(encoding="utf-8")
        body = section(rows, model, clip, frames, threads)
        document.write_text(replaced(text, "deepmon", body), encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
