"""`afterimage models`: which models there are, getting them, and what a model becomes here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from cache.graph import GraphError
from cache.memory import Memory, memory_of
from cache.onnx_import import ModelError
from cache.plan import Plan
from cache.report import Row, describe, totals
from service.catalogue import (
    BUILT_IN,
    BUILT_IN_LICENCE,
    CATALOGUE_VARIABLE,
    FOLDER_VARIABLE,
    Catalogue,
    CatalogueError,
    Entry,
    Pulled,
    built_in,
    default_catalogue,
    default_folder,
    find_model,
)
from service.commands.common import SizeOption, SpecOption, err, out, parse_size, plain_errors
from service.download import file_sha256
from service.opened import OpenedModel, open_model

app = typer.Typer(no_args_is_help=True, help="List models, get them, and look at them.")

CatalogueOption = Annotated[
    Path | None, typer.Option("--catalogue", envvar=CATALOGUE_VARIABLE, help="Another catalogue, a TOML file.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", envvar=FOLDER_VARIABLE, help="Pulled models. Default: models in the user's cache."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]

_INTERRUPTED = 130
"""Exit status of a program that SIGINT ends, as shells state it."""


@app.callback()
def models() -> None:
    """List models, get them, and look at them."""


@app.command("list")
def list_models(catalogue: CatalogueOption = None, folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List the built-in model and the public ones that can be pulled."""
    with plain_errors():
        known = Catalogue.load(catalogue, folder)
        missing, row = _built_in_row()
        rows = [row, *(_row(known, entry) for entry in known.entries.values())]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table()
    for name in ("name", "task", "licence", "size", "here"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for row in rows:
        size = "" if row["size_bytes"] is None else _megabytes(row["size_bytes"])
        there = "[yellow]no[/]" if not row["path"] else ("[green]pulled[/]" if row["url"] else "[green]built in[/]")
        table.add_row(row["name"], escape(row["task"]), row["licence"], size, there)
    out.print(table)
    if missing:
        out.print(escape(missing), highlight=False, soft_wrap=True)
    out.print(f"Pulled models are kept in {escape(str(known.folder))}.", highlight=False, soft_wrap=True)


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="A name that `afterimage models list` shows.")],
    force: Annotated[
        bool, typer.Option("--force", help="Download it again, and write its specification anew.")
    ] = False,
    catalogue: CatalogueOption = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a public model from its authors, check it, and keep it for use by its name."""
    with plain_errors():
        if name == BUILT_IN:
            path = built_in()
            fields = _built_in_fields(path) | {"spec": str(path.with_suffix(".toml")), "downloaded": False}
            print(json.dumps(fields)) if as_json else out.print(f"{name} is built in: there is nothing to pull.")
            return
        known = Catalogue.load(catalogue, folder)
        entry = known.entry(name)
        with _stoppable(), _progress(entry) as moved:
            done = known.pull(name, force=force, on_progress=moved, on_wait=lambda: _say_waiting(name))
    if as_json:
        print(json.dumps(_row(known, entry) | {"spec": str(done.spec), "downloaded": done.downloaded}))
        return
    how = f"pulled, {_megabytes(entry.size_bytes)}" if done.downloaded else "here already, nothing downloaded"
    out.print(f"{name}: {how}; SHA-256 verified. Licence: {entry.licence}.", highlight=False, soft_wrap=True)
    out.print(escape(str(done.path)), highlight=False, soft_wrap=True)
    by_name = _by_name(done, catalogue, folder)
    if by_name:
        out.print(escape(by_name), highlight=False, soft_wrap=True)


def _by_name(done: Pulled, catalogue: Path | None, folder: Path | None) -> str:
    """What other commands need to find a model that was pulled by way of options; empty if they find it as it is."""
    given = ((FOLDER_VARIABLE, folder, default_folder()), (CATALOGUE_VARIABLE, catalogue, default_catalogue()))
    unlike = [(name, path) for name, path, default in given if path and path.resolve() != default.resolve()]
    settings = " ".join(f"{name}={shlex.quote(str(path.resolve()))}" for name, path in unlike)
    return f"To use it by name set {settings}, or give its path: {done.path}" if settings else ""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Say what Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("stopped; what came is kept, pull again to go on", highlight=False)
        raise typer.Exit(_INTERRUPTED) from None


@contextmanager
def _progress(entry: Entry) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, else nothing; gives the function that moves it to so many bytes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(escape(entry.name), total=entry.size_bytes)
        yield lambda done: progress.update(task, completed=done)


def _say_waiting(name: str) -> None:
    err.print(f"another process pulls {name}; waiting for it", highlight=False)


def _row(known: Catalogue, entry: Entry) -> dict[str, Any]:
    path = str(known.path(entry.name)) if known.is_pulled(entry.name) else None
    fields = entry.model_dump(include={"name", "task", "licence", "size_bytes", "url", "sha256", "source", "authors"})
    return {**fields, "family": entry.spec["family"], "path": path}


def _built_in_row() -> tuple[str, dict[str, Any]]:
    """What is wrong with the built-in model, if anything, and its row."""
    try:
        return "", _built_in_fields(built_in())
    except CatalogueError as error:
        return str(error), _built_in_fields(None)


def _built_in_fields(path: Path | None) -> dict[str, Any]:
    """The built-in model as `_row` has the others. path : None where this installation lacks it."""
    return {
        "name": BUILT_IN,
        "task": "people, faces, vehicles",
        "licence": BUILT_IN_LICENCE,
        "url": None,
        "sha256": None if path is None else file_sha256(path),
        "size_bytes": None if path is None else path.stat().st_size,
        "source": None,
        "authors": "Afterimage",
        "family": "afterimage",
        "path": None if path is None else str(path),
    }


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


@app.command("show")
def show(
    model: Annotated[str, typer.Argument(help="ONNX file, or a name that `afterimage models list` shows.")],
    size: SizeOption = None,
    spec: SpecOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model takes of memory, which of its nodes are cached, which run in a tail, and why."""
    with plain_errors():
        opened = open_model(find_model(model), parse_size(size), spec)
        plan, whole = _plan(opened)
    rows, memory = describe(plan.graph, plan.partition), memory_of(plan)
    summary = _summary(opened, plan, rows) | _memory(memory)
    if as_json:
        print(json.dumps(summary | {"memory_bytes": memory.as_dict(), "nodes": [asdict(row) for row in rows]}))
        return
    for name, value in summary.items():
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
    }


def _memory(memory: Memory) -> dict[str, str]:
    def mib(size_bytes: int) -> str:
        return f"{size_bytes / 2**20:.1f} MiB"

    return {
        "memory of a stream": f"{mib(memory.stream)}: feature maps {mib(memory.feature_maps)}, reference frame "
        f"{mib(memory.reference_frame)}, masks {mib(memory.masks)}, outputs {mib(memory.outputs)}",
        "without the reference frame": f"{memory.ratio:.2f} of one set of activations ({mib(memory.activations)})",
        "memory shared by streams": f"{mib(memory.shared)}: weights {mib(memory.weights)}, tables {mib(memory.tables)}",
        "memory of a thread": mib(memory.thread),
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
