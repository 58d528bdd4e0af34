"""The ablation of docs/techniques/README.md: `python -m benchmarks.techniques [--model MODEL]... [--clip CLIP]`.

Runs `afterimage bench techniques` on the built-in model, on VGG-16 and on the other models that are named, with one and
with two threads; rewrites the section between the markers, and draws docs/techniques/ablation.svg.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure

from service.bench import document
from service.bench.report import threads_said
from service.bench.techniques import FRAMES
from service.commands import techniques
from service.commands.common import SOURCE_HELP

PAGE = Path("docs/techniques/README.md")
PLOT = "ablation.svg"


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the median time of each technique, a panel for each model and number of threads."""
    models = report["models"]
    figure = Figure(figsize=(4.6 * len(models), 4.2), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        rows = [row for row in model["rows"] if row["reason"] is None]
        bars = axes.barh([row["key"] for row in rows], [row["p50_ms"] for row in rows], color="#0b62c4")
        axes.bar_label(bars, [f"{row['p50_ms']:.1f}" for row in rows], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("ms, median")
        axes.set_title(f"{model['model']}, {threads_said(model['threads'])}", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def command(
    models: Annotated[list[str] | None, typer.Option("--model", help="Another model, as YOLOX-nano's file.")] = None,
    clip: Annotated[str, typer.Option(help=SOURCE_HELP)] = "scene",
    start: Annotated[int, typer.Option(min=0)] = 0,
    frames: Annotated[int, typer.Option(min=2)] = FRAMES,
    threads: Annotated[list[int] | None, typer.Option(min=1, max=64, help="May be given several times.")] = None,
    page: Annotated[Path, typer.Option("--doc", help="Document whose section between markers is rewritten.")] = PAGE,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure, write and draw."""
    text = page.read_text(encoding="utf-8")
    document.replaced(text, "techniques", "")  # before anything is measured
    found = techniques.measured(
        [*techniques.DEFAULTS, *(models or ())], clip, start=start, frames=frames, threads=tuple(threads or (1, 2))
    )  # fmt: skip
    draw(found, page.parent / PLOT)
    body = f"![Median time of each technique]({PLOT})\n\n{document.techniques_section([found])}"
    page.write_text(document.replaced(text, "techniques", body), encoding="utf-8")
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
