"""`afterimage calibrate`: find the thresholds of a model that save most work within a budget, from clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from cache.session import Session
from service.bench.machine import installed
from service.calibration.budget import Budget
from service.calibration.footage import Footage, look
from service.calibration.report import agreement, page
from service.calibration.search import Found, Point, Probes, figures, finer_blocks, search, search_key
from service.catalogue import find_model
from service.commands.common import (
    SOURCE_HELP,
    EveryOption,
    SizeOption,
    SpecOption,
    StartOption,
    err,
    out,
    parse_size,
    plain_errors,
)
from service.evaluate import EvaluationError
from service.opened import OpenedModel, open_model
from service.profile import Profile, profile_path
from service.sources import open_source

FRAMES = 60


def command(
    model: Annotated[str, typer.Argument(help="ONNX file, or a name that `afterimage models list` shows.")],
    clips: Annotated[list[str], typer.Argument(help=f"One or more clips like what the camera will see. {SOURCE_HELP}")],
    size: SizeOption = None,
    start: StartOption = 0,
    frames: Annotated[int, typer.Option(min=2, max=5000, help="Frames of each clip.")] = FRAMES,
    every: EveryOption = 1,
    budget: Annotated[
        str,
        typer.Option(help="noise: no worse than compression noise; 0.99: agreement; error=0.002: error of outputs."),
    ] = "noise",
    spec: SpecOption = None,
    profile: Annotated[
        Path | None, typer.Option("--out", help="The profile. Default: NAME.profile.json beside the model.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with the plot of work against damage.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure anew what a search that was stopped has left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Find thresholds for a model that save most work within a budget, and keep them in a profile."""
    with plain_errors():
        allowed = Budget.parse(budget)
        path = Path(find_model(model))
        target = profile or profile_path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(2, "no such folder", str(target.parent))
        opened = open_model(path, parse_size(size), spec, profile="")
        with Progress(console=err, transient=True) as progress:
            # Without the turns of refresh, which take the same whatever the thresholds.
            policy = replace(opened.policy, refresh_frames=0)
            session = Session(opened.compile(policy))
            finer = Session(opened.compile(replace(policy, blocks=finer_blocks(session.plan))))
            footages = _look(opened, session, clips, start, frames, every, progress)
            kept = target.with_name(target.name + ".probes")
            if fresh:
                kept.unlink(missing_ok=True)
            probes = Probes(kept, search_key(opened, footages))
            bar = progress.add_task("thresholds", total=1.0)
            found = search(
                opened, session, finer, footages, allowed, probes,
                lambda name, share: progress.update(bar, description=name, completed=share),
            )  # fmt: skip
        report = _report(opened, allowed, footages, found)
        Profile(
            model=opened.model.sha256,
            size=opened.size,
            budget=str(allowed),
            factors=found.factors,
            blocks=found.blocks,
            measured=report,
        ).write(target)
        probes.done()
        if html is not None:
            html.write_text(page(opened.model.name, report), encoding="utf-8")
            if installed("matplotlib") is None:
                err.print("the page has no plot: matplotlib is not installed", soft_wrap=True)
    if as_json:
        print(json.dumps({**report, "profile": str(target)}))
    else:
        out.print(_table(report))
        out.print(f"written to {target}", highlight=False, soft_wrap=True)


def _look(
    opened: OpenedModel, session: Session, clips: Sequence[str], start: int, frames: int, every: int, progress: Progress
) -> list[Footage]:
    """Run every clip densely. Raises EvaluationError for one of less than two frames."""
    whole, found = Session(session.plan, exact=True), list[Footage]()
    for clip in clips:
        with open_source(clip, start=start, frames=frames, every=every) as source:
            name = Path(source.name).name
            bar = progress.add_task(f"dense run on {name}", total=source.total or frames)
            last: Footage | int = 0
            for last in look(opened, whole, name, (frame.image for frame in source)):
                if isinstance(last, int):
                    progress.update(bar, completed=last)
        if not isinstance(last, Footage) or len(last.frames) < 2:
            raise EvaluationError(f"{clip}: expected at least 2 frames, got {last if isinstance(last, int) else 1}")
        found.append(last)
    return found


def _report(opened: OpenedModel, budget: Budget, footages: Sequence[Footage], found: Found) -> dict[str, Any]:
    def curve(points: Sequence[Point]) -> list[dict[str, Any]]:
        return [{"scale": p.scale, "compute_fraction": p.fraction, "clips": figures(p)} for p in points]

    return {
        "model": opened.model.name, "size": list(opened.size), "budget": str(budget),
        "clips": [{"name": f.name, "frames": len(f.frames)} for f in footages],
        "finer_blocks": bool(found.blocks),
        "compute_fraction": found.chosen.fraction, "compute_fraction_default": found.default.fraction,
        "calibrated": figures(found.chosen), "default": figures(found.default),
        "noise_floor": figures(Point(1.0, tuple(f.noise for f in footages))),
        "frontier": curve(found.frontier), "frontier_default": curve(found.default_frontier),
    }  # fmt: skip


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['model']}, budget {report['budget']}")
    for column in ("clip", "thresholds", "work left", "agreement .5 / .75", "damage of boxes", "error of outputs"):
        table.add_column(column)
    for number, clip in enumerate(report["clips"]):
        for name, key in (("default", "default"), ("calibrated", "calibrated"), ("(noise floor)", "noise_floor")):
            f = report[key][number]
            boxes = "-" if f["boxes"] is None else f"{f['boxes']:.3f}"
            left = "-" if key == "noise_floor" else f"{f['fraction']:.1%}"
            table.add_row(
                clip["name"] if key == "default" else "", name, left, agreement(f), boxes, f"{f['error']:.4f}"
            )
    return table
