"""`afterimage verify`: does caching change what a model sees in a clip, and how much work does it save?"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from service.catalogue import find_model
from service.commands.common import (
    SOURCE_HELP,
    EveryOption,
    FramesOption,
    SizeOption,
    SpecOption,
    StartOption,
    err,
    out,
    parse_size,
    plain_errors,
)
from service.opened import open_model
from service.sources import is_endless, open_source
from service.verification import verify

ENDLESS_FRAMES = 200


def command(
    model: Annotated[str, typer.Argument(help="ONNX file, or a name that `afterimage models list` shows.")],
    clip: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    size: SizeOption = None,
    start: StartOption = 0,
    frames: FramesOption = None,
    every: EveryOption = 1,
    exact: Annotated[bool, typer.Option("--exact", help="Thresholds zero: must be bit for bit the same.")] = False,
    spec: SpecOption = None,
    precision: Annotated[
        Literal["fast", "strict"], typer.Option(help="strict: every product directly, none by Winograd's or Fourier's.")
    ] = "fast",
    cache_dtype: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="What feature maps are kept as; float16 takes half the memory."),
    ] = "float32",
    compute_dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="bfloat16: wide 1x1 and strided convolutions, where this CPU gains by it."),
    ] = "float32",
    fft_kept: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the frequencies that transforms of large filters keep; 0: none."),
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run a clip incrementally and densely, and compare the two with each other and with ONNX Runtime."""
    with plain_errors():
        opened = open_model(find_model(model), parse_size(size), spec)
        policy = replace(
            opened.policy, precision=precision, cache_dtype=cache_dtype, compute_dtype=compute_dtype, fft_kept=fft_kept
        )
        with (
            open_source(clip, start=start, frames=frames or default_frames(clip), every=every) as source,
            Progress(console=err, transient=True) as progress,
        ):
            bar = progress.add_task(f"{opened.model.name} on {source.name}", total=source.total)
            report = verify(
                opened,
                (frame.image for frame in source),
                exact=exact,
                policy=policy,
                progress=lambda done: progress.update(bar, completed=done),
            )
    if as_json:
        print(json.dumps(report))
    else:
        out.print(_table(report))
    if exact and not report["bit_identical"]:
        raise typer.Exit(1)


def default_frames(clip: str) -> int | None:
    """How many frames are compared where none are asked for: all, of a clip that has an end."""
    return ENDLESS_FRAMES if is_endless(clip) else None


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=f"frames: {report['frames']}", show_header=False)
    fraction = report["compute_fraction"]
    table.add_row("compute fraction", ", ".join(f"{name} {value:.1%}" for name, value in fraction.items()))
    for name, title in (("agreement", "agreement with dense"), ("noise_floor", "noise floor")):
        found = report[name]
        shown = report.get("note", "none") if found is None else f"{found['iou50']:.3f} / {found['iou75']:.3f}"
        table.add_row(f"{title} (IoU .5 / .75)", shown)
    table.add_row("strong boxes compared", str(report["strong_boxes"]))
    table.add_row("largest error of an output", f"{report['max_abs_error']:.3g}")
    error = report["onnxruntime_error"]
    table.add_row("dense against ONNX Runtime", "not run" if error is None else f"{error:.1e} of the largest value")
    if report["bfloat16_nodes"]:
        table.add_row("nodes in bfloat16", str(report["bfloat16_nodes"]))
    if report["fft_nodes"]:
        table.add_row("nodes by Fourier transforms", str(report["fft_nodes"]))
    if report["fft_lacking"]:
        table.add_row("nodes by Fourier transforms", f"none; {report['fft_lacking']} may gain by the extra `fft`")
    said = {"default": "default, no profile", "exact": "zero"}
    table.add_row("thresholds", said.get(report["budget"], f"of a profile, budget {report['budget']}"))
    table.add_row("frames by decision", ", ".join(f"{name} {count}" for name, count in report["decisions"].items()))
    if report["audit"] is not None:
        table.add_row("audits of a second stream", _audits(report["audit"]))
    table.add_row("for reasons", ", ".join(f"{name} {count}" for name, count in report["reasons"].items()))
    table.add_row("bit for bit the same", "yes" if report["bit_identical"] else "no")
    return table


def _audits(found: dict[str, Any]) -> str:
    """What audits found, in words."""
    if not found["audits"]:
        return "no frame with anything to compare"
    return (
        f"{found['audits']} frames, {found['violations']} above their budget; error {found['mean_error']:.3f} of "
        f"{found['mean_allowed']:.3f} allowed, "
        f"at most {found['bound']:.3f} more with {found['confidence']:.0%} confidence; "
        f"thresholds x {found['factor']:.2f}"
    )
