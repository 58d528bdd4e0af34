"""The ablation of docs/techniques/README.md: `python -m benchmarks.techniques [--model MODEL[@WxH]]... [--clip CLIP]`.

Runs `afterimage bench techniques` on the built-in model, on VGG-16, on a network of large kernels and on the other
models that are named, with one and with two threads; rewrites the section between the markers, and draws
docs/techniques/ablation.svg.
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


SHORT = {"float32": "compressed, caching"}
"""What bars are called, where not by their key."""
MODELS = (*techniques.DEFAULTS, "synthetic:replknet")


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the median time of each technique: a line of panels for each model, one for each number of threads."""
    models = report["models"]
    columns = len({model["threads"] for model in models})
    lines = -(-len(models) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * lines), layout="constrained")
    for axes, model in zip(figure.subplots(lines, columns, squeeze=False).ravel(), models, strict=False):
        rows = [row for row in model["rows"] if row["reason"] is None]
        bars = axes.barh(
            [SHORT.get(row["key"], row["key"]) for row in rows], [row["p50_ms"] for row in rows], color="#0b62c4"
        )
        axes.bar_label(bars, [f"{row['p50_ms']:.1f}" for row in rows], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("ms, median")
        axes.set_title(f"{model['model']}, {model['size']}, {threads_said(model['threads'])}", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def command(
    models: Annotated[list[str] | None, typer.Option("--model", help="Another model, as FILE or FILE@640x384.")] = None,
    clip: Annotated[str, typer.Option(help=SOURCE_HELP)] = "scene",
    start: Annotated[int, typer.Option(min=0)] = 0,
    frames: Annotated[int, typer.Option(min=2)] = FRAMES,
    threads: Annotated[list[int] | None, typer.Option(min=1, max=64, help="May be given several times.")] = None,
    error: Annotated[float, typer.Option(min=0.001, max=0.5, help="That decomposing weights may make.")] = 0.05,
    page: Annotated[Path, typer.Option("--doc", help="Document whose section between markers is rewritten.")] = PAGE,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure, write and draw."""
    text = page.read_text(encoding="utf-8")
    document.replaced(text, "techniques", "")  # before anything is measured
    reports = []
    for model in [*MODELS, *(models or ())]:
        name, _, size = model.partition("@")
        found = techniques.measured(
            [name], clip, size=size or None, start=start, frames=frames, threads=tuple(threads or (1, 2)), error=error
        )
        reports += found["models"]
    found["models"] = reports
    draw(found, page.parent / PLOT)
    body = f"![Median time of each technique]({PLOT})\n\n{document.techniques_section([found])}"
    page.write_text(document.replaced(text, "techniques", body), encoding="utf-8")
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
