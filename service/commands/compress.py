"""`afterimage compress`: a smaller model from a large one, by low-rank factors of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from service.catalogue import find_model
from service.commands.common import (
    SOURCE_HELP,
    Clip,
    SizeOption,
    SpecOption,
    err,
    out,
    parse_clip,
    parse_size,
    plain_errors,
)
from service.commands.reports import JsonOption, hand_out_json
from service.compression.compress import BAYES, Compressed, Target, compress
from service.compression.errors import CompressionError
from service.compression.output import check_output, check_report, write_output
from service.compression.report import LayerReport, Report
from service.compression.timing import Times, opened_as, time_both
from service.opened import open_model
from service.sources import Image, is_endless, open_source

_ENDLESS_EVERY = 25
"""Of a camera or the scene every so many frames one is taken: a second."""
_TIMED = 40
_UNSAID = 0
"""Step of a clip of which none is stated."""


def command(
    model: Annotated[str, typer.Argument(help="ONNX file, or a name that `afterimage models list` shows.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The smaller model, an ONNX file.")],
    method: Annotated[
        Literal["tucker2", "cp", "svd"],
        typer.Option(help="Of convolutions with windows; 1x1 ones and fully connected layers are always cut by SVD."),
    ] = "tucker2",
    energy: Annotated[
        str | None,
        typer.Option(metavar="E", help="Share of squared singular values that each layer keeps, as 0.95; or vbmf."),
    ] = None,
    macs: Annotated[
        float | None, typer.Option(metavar="F", help="Share of the multiply-accumulates that may be left, as 0.5.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="B", help="Error of the outputs (relative, root mean square) not to pass, as 0.05."),
    ] = None,
    frames: Annotated[str, typer.Option(metavar="CLIP", help=f"What the model will see. {SOURCE_HELP}")] = "scene",
    samples: Annotated[int, typer.Option(min=1, max=256, help="Frames of the clip, evenly spread.")] = 16,
    correct: Annotated[
        bool, typer.Option("--correct/--no-correct", help="Fit what is left to the activations on these frames.")
    ] = True,
    size: SizeOption = None,
    spec: SpecOption = None,
    timed: Annotated[bool, typer.Option("--time/--no-time", help="Time both models, dense and cached.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT, and what lies beside it.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Make a model smaller: Tucker, CP or SVD factors in the place of its convolutions and matrices."""
    with plain_errors():
        path, chosen = Path(find_model(model)), parse_size(size)
        wanted = Target(_energy(energy), macs, budget)
        check_output(target, path, force)
        check_report(json_file, path, target)
        opened = open_model(path, chosen, spec, profile="")
        with Progress(console=err, transient=True) as progress:
            bar = progress.add_task(opened.model.name, total=1.0)

            def show(what: str, share: float) -> None:
                progress.update(bar, description=what, completed=share)

            made = compress(
                path, _spread(frames, samples), method=method, energy=wanted.energy, macs=macs, budget=budget,
                correct=correct, size=chosen, progress=show, spec=spec,
            )  # fmt: skip
            times = None
            if timed:
                show("times", 0.0)
                after = opened_as(opened, made.data)
                times = time_both(opened, after, _consecutive(frames), lambda share: show("times", share))
        beside = spec or path.with_suffix(".toml")
        write_output(target, made.data, beside if beside.is_file() else None)
        if hand_out_json(_json(made, times, target), json_file):
            return
    _show(made.report, times)
    out.print(f"written to {target}", highlight=False, soft_wrap=True)


def _energy(text: str | None) -> float | Literal["vbmf"] | None:
    if text is None:
        return None
    if text == BAYES:
        return "vbmf"
    try:
        return float(text)
    except ValueError:
        raise CompressionError(f"energy: expected a share above 0 up to 1, or {BAYES}, got {text!r}") from None


def _spread(text: str, samples: int) -> Iterator[Image]:
    """At most so many frames of a clip, evenly spread over it, or over the range that is stated; with a step that is
    stated the first ones."""
    clip = parse_clip(text, Clip(text, every=_UNSAID))
    count, every = samples if clip.frames is None else min(samples, clip.frames), clip.every
    if every == _UNSAID:
        with open_source(clip.source, start=clip.start, frames=clip.frames) as source:
            length = source.total
        every = max(1, (length or 0) // samples)
        if clip.frames is None and is_endless(clip.source):
            every = _ENDLESS_EVERY
    with open_source(clip.source, start=clip.start, frames=count, every=every) as source:
        yield from (frame.image for frame in source)


def _consecutive(text: str) -> Iterator[Image]:
    """The first frames of a clip, in a row."""
    clip = parse_clip(text, Clip(text))
    with open_source(clip.source, start=clip.start, frames=_TIMED) as source:
        yield from (frame.image for frame in source)


def _json(made: Compressed, times: Times | None, target: Path) -> dict[str, Any]:
    return {**made.report.as_json(), "times": None if times is None else times.as_json(), "out": str(target)}


def _show(report: Report, times: Times | None) -> None:
    table = Table(title=f"{report.model}, {report.method}, {report.target}")
    for column in ("layer", "weights", "in its place", "ranks", "work", "error"):
        table.add_column(column)
    for layer in report.replaced:
        table.add_row(
            layer.name, "x".join(map(str, layer.shape)), layer.form, " ".join(map(str, layer.ranks)),
            f"{layer.macs_after / layer.macs_before:.0%}", f"{layer.error:.3f}",
        )  # fmt: skip
    out.print(table)
    left = [layer for layer in report.layers if not layer.form]
    for reason, count in _reasons(left).items():
        out.print(f"left as they are: {count} x {reason}", highlight=False, soft_wrap=True)
    figures = Table(show_header=False)
    figures.add_row("multiply-accumulates", f"{_mega(report.macs_before)} to {_mega(report.macs_after)}"
                    f" ({report.macs_share:.1%})")  # fmt: skip
    figures.add_row("file", f"{report.bytes_before:,} to {report.bytes_after:,} bytes")
    figures.add_row("error of the outputs", f"{report.output_error:.2%} (relative, root mean square)")
    agreed = report.agreement
    shown = "nothing to compare" if agreed is None else ", ".join(f"{k} {v:.3f}" for k, v in agreed.items())
    figures.add_row("agreement with the original", shown)
    same = ": the same one, others may fare worse" if report.in_sample else ""
    figures.add_row("frames fitted to, measured on", f"{report.frames[0]}, {report.frames[1]}{same}")
    if times is not None:
        figures.add_row("dense frame", f"{times.dense_before_ms:.2f} to {times.dense_after_ms:.2f} ms")
        figures.add_row("cached frame", f"{times.cached_before_ms:.2f} to {times.cached_after_ms:.2f} ms")
    out.print(figures)


def _reasons(left: list[LayerReport]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for layer in left:
        counts[layer.reason] = counts.get(layer.reason, 0) + 1
    return counts


def _mega(macs: int) -> str:
    return f"{macs / 1e6:,.1f} M"
