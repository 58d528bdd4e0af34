"""Work left against agreement, at default and at calibrated thresholds: `python -m benchmarks.frontier CLIP MODEL...`.

Runs `afterimage calibrate` on each model, and draws what it measured on the way to one SVG.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure


def measured(model: str, clip: str, start: int, frames: int, size: str) -> dict[str, Any]:
    """The figures of a calibration, of which the profile is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "service.cli", "calibrate", model, clip, "--size", size, "--start", str(start),
            "--frames", str(frames), "--out", str(Path(folder) / "profile.json"), "--json",
        ]  # fmt: skip
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def curve(points: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Work in % and a figure of the first clip, by ascending work."""
    pairs = sorted((100 * p["compute_fraction"], p["clips"][0][key]) for p in points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def main(
    clip: Annotated[str, typer.Argument()],
    models: Annotated[list[str], typer.Argument()],
    start: Annotated[int, typer.Option()] = 200,
    frames: Annotated[int, typer.Option()] = 60,
    size: Annotated[str, typer.Option()] = "640x384",
    out: Annotated[Path, typer.Option()] = Path("docs/frontier.svg"),
) -> None:
    """Measure and draw."""
    figure = Figure(figsize=(4.2 * len(models), 5.6), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, sharex="col")
    for column, model in enumerate(models):
        found = measured(model, clip, start, frames, size)
        for row, (key, title) in enumerate((("iou50", "agreement, IoU .5"), ("boxes", "damage of boxes"))):
            ax, noise = axes[row][column], found["noise_floor"][0][key]
            for name, points in (("default", found["frontier_default"]), ("calibrated", found["frontier"])):
                ax.plot(*curve(points, key), marker="o", markersize=4, label=name)
            ax.axhline(noise, linestyle="--", color="grey", linewidth=1, label="noise floor")
            chosen = found["calibrated"][0]
            ax.plot([100 * chosen["fraction"]], [chosen[key]], "k*", markersize=10, label="chosen")
            if column == 0:
                ax.set_ylabel(title)
            ax.grid(alpha=0.3)
        axes[0][column].set_title(Path(model).stem)
        axes[1][column].set_xlabel("work left, %")
        print(Path(model).stem, json.dumps({key: found[key] for key in ("calibrated", "default", "noise_floor")}))
    axes[0][0].legend(fontsize=8)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    typer.run(main)
