"""`afterimage models`: what a model becomes here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cache.graph import GraphError
from cache.onnx_import import ModelError
from cache.plan import Plan
from cache.report import Row, describe, totals
from service.commands.common import SizeOption, SpecOption, out, parse_size, plain_errors
from service.opened import OpenedModel, open_model

app = typer.Typer(no_args_is_help=True, help="Look at models.")


@app.callback()
def models() -> None:
    """Look at models."""


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="ONNX file.")],
    size: SizeOption = None,
    spec: SpecOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show which nodes are cached, which run in a tail, and why."""
    with plain_errors():
        opened = open_model(file, parse_size(size), spec)
        plan, whole = _plan(opened)
    rows = describe(plan.graph, plan.partition)
    if as_json:
        print(json.dumps(_summary(opened, plan, rows) | {"nodes": [asdict(row) for row in rows]}))
        return
    for name, value in _summary(opened, plan, rows).items():
        out.print(f"[bold]{name}[/]: {value}", highlight=False)
    out.print(_nodes(rows))
    if not whole:
        out.print("The model's own tail is fixed to another size; shown up to the tensors its family decodes.")


def _plan(opened: OpenedModel) -> tuple[Plan, bool]:
    """The plan to the model's own outputs; up to the family's heads where the rest is fixed to another size."""
    shape = (1, opened.spec.channels, opened.size[1], opened.size[0])
    try:
        return Plan.compile(opened.model, shape, None, opened.spec.normalisation()), True
    except (ModelError, GraphError):
        return opened.compile(), False


def _summary(opened: OpenedModel, plan: Plan, rows: tuple[Row, ...]) -> dict[str, str]:
    sums = totals(rows)
    tails = "; ".join(sorted({reason for tail in plan.partition.tails for reason in tail.reasons}))
    return {
        "model": opened.model.name,
        "family": opened.spec.family,
        "input": f"{opened.size[0]}x{opened.size[1]} {opened.spec.colour}",
        "cached": f"{sums.cached_nodes} nodes, {sums.cached_macs / 1e6:.1f} million multiply-accumulates",
        "in tails": f"{sums.tail_nodes} nodes, {sums.tail_macs / 1e6:.1f} million multiply-accumulates"
        + (f" ({tails})" if tails else ""),
        "memory of a stream": f"{plan.arena_bytes / 2**20:.1f} MiB of feature maps",
    }


def _nodes(rows: tuple[Row, ...]) -> Table:
    table = Table()
    for name in ("node", "op", "output", "MMAC", "where", "why not cached"):
        table.add_column(name, justify="right" if name == "MMAC" else "left", overflow="fold")
    for row in rows:
        shape = "x".join(map(str, row.shape)) if row.shape else "?"
        work = f"{row.macs / 1e6:.2f}" if row.macs else ""
        where = "[green]cached[/]" if row.cached else f"[yellow]tail {row.tail}[/]"
        table.add_row(row.node, row.op.replace("[", r"\["), shape, work, where, row.reason.replace("[", r"\["))
    return table
