"""What the measuring commands share: models by any name, options of reports, and how figures are handed out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from service.bench import report, synthetic
from service.bench.engines import HOW_TO_INSTALL
from service.bench.machine import installed
from service.catalogue import find_model
from service.commands.common import err, out
from service.families import Size
from service.opened import OpenedModel, open_model

BUSY_CORES = 0.2
"""Use of other programs above which it is said that the figures are not to be trusted."""

JsonOption = Annotated[
    Path | None, typer.Option("--json", allow_dash=True, help="Write the figures as JSON; - prints them.")
]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write a report with plots, one self-contained page.")]


def model_name(model: str) -> str:
    """What a model is called in a report: its own name, without the folders of a path."""
    return model if synthetic.is_synthetic(model) or not model.endswith(".onnx") else Path(model).stem


def model_source_of(model: str) -> str:
    """What others open a model by: its file, or the name of a synthetic one."""
    return model if synthetic.is_synthetic(model) else str(find_model(model))


def open_any(model: str, size: Size | None, spec: Path | None = None) -> OpenedModel:
    """A synthetic network, a file, or a name that `afterimage models list` shows. spec : not of a synthetic one."""
    if synthetic.is_synthetic(model):
        return synthetic.open_synthetic(model, size)
    return open_model(find_model(model), size, spec)


def hand_out(found: dict[str, Any], json_file: Path | None, html: Path | None, *shown: Table) -> None:
    """Write what was asked for; the tables are printed unless JSON is."""
    say_busy(found["machine"]["other_programs_cores"])
    if html is not None:
        if installed("matplotlib") is None:
            err.print(f"the report has no plots: matplotlib is not installed; {HOW_TO_INSTALL}", soft_wrap=True)
        html.write_text(report.page(found), encoding="utf-8")
    if not hand_out_json(found, json_file):
        for table in shown:
            out.print(table)


def hand_out_json(found: dict[str, Any], json_file: Path | None) -> bool:
    """Write figures where that was asked for; whether they were printed, so that nothing else should be."""
    if json_file is not None and str(json_file) == "-":
        print(json.dumps(found))
        return True
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return False


def say_busy(others: float | None) -> None:
    """Say so where other programs used the machine meanwhile."""
    if others is not None and others > BUSY_CORES:
        err.print(f"other programs kept {others:g} cores busy meanwhile; measure again when they are done")
