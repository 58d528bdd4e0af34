"""DeepMon's rule of caching against ours on a clip: `python -m benchmarks.deepmon [MODEL] [CLIP] [--doc FILE]`.

One row for whole frames, one for ours exact, one for ours within the budget, and one for DeepMon's rule at each share
of the convolutions that it caches and each distance. Same kernels, same frames, in turn; compared with the whole frame
in float32, frame by frame.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.bench.deepmon import Rule
from service.bench.document import boxes_said, replaced
from service.bench.machine import machine, use_threads
from service.bench.subjects import REFERENCE, Maker
from service.bench.techniques import as_seen, row, run
from service.commands.common import SOURCE_HELP, parse_size
from service.commands.reports import model_name, open_any
from service.energy import Meter
from service.sources import open_source

RULES = tuple((share, distance) for share in (0.25, 0.5, 1.0) for distance in (0.005, 0.02, 0.08))
"""Shares of the convolutions, and distances of histograms."""
OURS = {"winograd": "whole frames", "exact": "ours, exact", "caching": "ours, within the budget"}
HEAD = ("rule", "p50, ms", "p99, ms", "work", "agreement .5 / .75", "error, mean", "error, largest", "drift")


def measured(
    model: str, clip: str, size: str | None, start: int, frames: int, threads: int, rules: list[Rule]
) -> list[dict[str, Any]]:
    """A row for each rule, behind one of whole frames and two of ours."""
    opened = open_any(model, parse_size(size))
    use_threads(threads)
    with open_source(clip, start=start, frames=frames) as source:
        seen = as_seen((frame.image for frame in source), opened)
    maker = Maker(opened, model, [], threads=threads)
    subjects = {key: maker.make(key) for key in (REFERENCE, *OURS)}
    for rule in rules:
        subject = maker.deepmon(rule)
        subjects[f"DeepMon: {subject.note}"] = subject
    meter = Meter()
    tracks = run(subjects, seen, meter, time.perf_counter_ns, threads, lambda what, done: None)
    rows = [row(key, subjects[key], tracks[key], None, meter.source) for key in subjects if key != REFERENCE]
    return [found | {"label": OURS.get(found["key"], found["key"])} for found in rows]


def cells(found: dict[str, Any]) -> list[str]:
    """A row as text."""
    drift = "–" if found["drift"] is None else f"{found['drift']:.2f}"
    return [
        found["label"], f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.2f}", f"{found['work']:.1%}",
        boxes_said(found["agreement"]), f"{found['error_mean']:.1e}", f"{found['error_max']:.1e}", drift,
    ]  # fmt: skip


def section(rows: list[dict[str, Any]], model: str, clip: str, frames: int, threads: int) -> str:
    """What stands between the markers of docs/techniques/caching.md."""
    lines = [list(HEAD), ["---"] * len(HEAD), *(cells(found) for found in rows)]
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
    renew_frames: Annotated[int, typer.Option(help="Everything anew after so many frames; 0 for never.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    document: Annotated[
        Path | None, typer.Option("--doc", help="Document whose section between markers is rewritten.")
    ] = None,
) -> None:
    """Our caching and DeepMon's rule, side by side."""
    rules = [
        Rule(block_px, distance=distance, layers=share, renew_frames=renew_frames) for share, distance in RULES
    ]  # fmt: skip
    rows = measured(model, clip, size, start, frames, threads, rules)
    table = Table(*HEAD)
    for found in rows:
        table.add_row(*cells(found))
    Console().print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        text = document.read_text(encoding="utf-8")
        body = section(rows, model, clip, frames, threads)
        document.write_text(replaced(text, "deepmon", body), encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
