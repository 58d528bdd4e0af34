"""`afterimage plan`: how many boxes a number of streams takes, from what `afterimage bench box` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.capacity import words
from service.capacity.box import read_box
from service.capacity.plan import Demand, Plan, Terms
from service.capacity.plan import plan as make_plan
from service.commands.common import out, parse_size, plain_errors
from service.settings import Settings


def command(
    streams: Annotated[int, typer.Option(min=1, max=10_000_000, help="Streams in the busiest hour.")],
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Frames a second of each that are computed.")],
    activity: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of a frame's tiles that change, 0 to 1, on average.")
    ],
    model: Annotated[str, typer.Option(help="A model that the box was measured with.")] = "people",
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Input of the network. Default: the one measured.")
    ] = None,
    box: Annotated[
        list[Path] | None,
        typer.Option("--box", help="File of `afterimage bench box`; several are compared. Default: this machine's."),
    ] = None,
    headroom: Annotated[
        float | None, typer.Option(min=0.0, max=0.9, help="Of the workers' time. Default: the server's setting.")
    ] = None,
    spare: Annotated[int, typer.Option(min=0, max=100_000, help="Boxes that may be lost at once.")] = 1,
    peak: Annotated[
        float, typer.Option(min=1.0, max=1000.0, help="A busy stream's activity over the average one.")
    ] = 3.0,
    quantile: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Share of the time in which a full box has time for every frame.")
    ] = 0.99,
    frame: Annotated[
        str | None, typer.Option("--frame", metavar="WxH", help="Size of the frames sent. Default: the network's.")
    ] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="Clients send only the tiles that changed.")] = False,
    keyframe_every: Annotated[
        float, typer.Option(min=1.0, max=1e7, help="Seconds between a stream's whole frames (cuts, reconnections).")
    ] = 600.0,
    link_mbit: Annotated[float, typer.Option(min=0.1, max=1e6, help="Network of a box, Mbit/s.")] = 1000.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How many boxes a number of streams takes, and all that this rests on."""
    with plain_errors():
        picture, network = (None if parse_size(text) is None else str(text).lower() for text in (frame, size))
        demand = Demand(streams, fps, activity, peak, picture, tiles, keyframe_every)
        free = Settings().headroom if headroom is None else headroom
        terms = Terms(free, quantile, spare, link_mbit * 1e6)
        boxes = [read_box(path) for path in box] if box else [read_box()]
        plans = [make_plan(each, model, network, demand, terms) for each in boxes]
    if json_:
        told = [found.as_dict() | {"assumptions": words.assumptions(found)} for found in plans]
        print(json.dumps(told[0] if len(told) == 1 else told))
        return
    for found in plans:
        _show(found)
    if len(plans) > 1:
        _compare(plans)


def _show(found: Plan) -> None:
    out.print(f"[bold]{words.headline(found)}[/]", highlight=False, soft_wrap=True)
    for title, rows in (("one stream", words.stream_rows(found)), ("boxes", words.box_rows(found))):
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        out.print(table)
    out.print("assumed:", highlight=False)
    for line in words.assumptions(found):
        out.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)


def _compare(plans: list[Plan]) -> None:
    table = Table(title="kinds of boxes", title_justify="left")
    for name in ("box", "boxes", "streams of one", "binds", "cores in all"):
        table.add_column(name, justify="left" if name in ("box", "binds") else "right", overflow="fold")
    for found in sorted(plans, key=lambda each: each.boxes):
        estimate = " (estimate)" if found.box.estimate else ""
        table.add_row(
            f"{found.box.name}{estimate}", str(found.boxes), str(found.full), words.BOUNDS[found.binds],
            f"{found.boxes * found.box.cores:.10g}",
        )  # fmt: skip
    out.print(table)
