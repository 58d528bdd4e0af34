"""`python -m benchmarks.soak [SCENARIO...]`: all scenarios, or those named.

Exit status 1 where one did not show what it must.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.soak import identity
from benchmarks.soak.crowd import crowd
from benchmarks.soak.overload import fairness, overload
from benchmarks.soak.report import Report
from benchmarks.soak.restart import restart
from benchmarks.soak.server import ServerProcess
from benchmarks.soak.small import small
from service import codec
from service.sources import open_source

CLIP_FRAMES = 100
SIZE = (640, 384)
JPEG_QUALITY = 85


def clip(source: str) -> list[bytes]:
    """The first frames of a source, as a camera sends them."""
    with open_source(source, frames=CLIP_FRAMES) as opened:
        return [codec.encode_jpeg(frame.image, JPEG_QUALITY) for frame in opened]


def main(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(help="overload, fairness, crowd, restart; all of these without. small: as root"),
    ] = None,
    source: Annotated[str, typer.Option(help="Clip that cameras send.")] = "scene",
    model: Annotated[str, typer.Option(help="Model of the clip.")] = "people",
    scale: Annotated[float, typer.Option(help="Times the usual duration: 10 minutes, 1, 5 and three kills.")] = 1.0,
    output: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Load servers of their own on 127.0.0.1, one after another, and say what was shown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        readable = {"models": {"identity": {"path": str(identity.write_model(folder))}}}
        heavy = {"models": {"heavy": {"path": model, "size": list(SIZE)}}}

        def loaded(scenario: Callable[[ServerProcess, list[bytes], float], Report], seconds: float) -> Report:
            with ServerProcess(folder, heavy) as server:
                return scenario(server, clip(source), seconds * scale)

        def read(scenario: Callable[[ServerProcess], Report]) -> Report:
            with ServerProcess(folder, readable) as server:
                return scenario(server)

        known: dict[str, Callable[[], Report]] = {
            "overload": lambda: loaded(overload, 600.0),
            "fairness": lambda: loaded(fairness, 60.0),
            "crowd": lambda: read(lambda server: crowd(server, 300.0 * scale)),
            "restart": lambda: read(lambda server: restart(server, 3, max(5.0, 20.0 * scale))),
        }
        chosen = scenarios or list(known)
        known |= {
            "small": lambda: small(clip(source), max(5.0, 60.0 * scale)),
            "small-warm": lambda: small(clip(source), max(5.0, 60.0 * scale), cold=False),
        }
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise typer.BadParameter(f"expected {', '.join(known)}, got {unknown[0]}")
        reports = [_run(known[name]) for name in chosen]
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps([report.as_dict() for report in reports], indent=1))
    raise typer.Exit(not all(report.passed for report in reports))


def _run(scenario: Callable[[], Report]) -> Report:
    report, table = scenario(), Table("", "", show_header=False)
    table.title = report.name
    for name, value in report.figures.items():
        table.add_row(name, str(value))
    for name, holds in report.shown.items():
        table.add_row(name, "[green]yes[/]" if holds else "[red]no[/]")
    Console().print(table)
    return report


if __name__ == "__main__":
    typer.run(main)
