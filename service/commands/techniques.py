"""`afterimage bench techniques`: what each technique of the field gives a model, and what all of them give together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from service.bench import document, techniques
from service.bench.deepmon import Rule
from service.bench.errors import BenchError
from service.bench.report import threads_said
from service.bench.subjects import DECOMPOSED, KEYS, Smaller
from service.bench.variants import Image
from service.commands.common import (
    SOURCE_HELP,
    EveryOption,
    SizeOption,
    SpecOption,
    StartOption,
    err,
    parse_size,
    plain_errors,
)
from service.commands.reports import HtmlOption, JsonOption, hand_out, model_name, model_source_of, open_any
from service.sources import is_endless, open_source

DEFAULTS = ("people", "synthetic:vgg16")
"""Models that are measured where none is named."""
MIB = 1 << 20
_STRIDE = 10
"""From frame to frame that a compression looks at, where a clip has no end."""


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="ONNX file, a name that `afterimage models list` shows, or synthetic:vgg16, :resnet18, :mobilenet, "
            f":replknet. Default: {' and '.join(DEFAULTS)}."
        ),
    ] = None,
    clip: Annotated[str, typer.Argument(help=SOURCE_HELP)] = "scene",
    size: SizeOption = None,
    start: StartOption = 0,
    frames: Annotated[int, typer.Option(min=2, help="At most so many frames.")] = techniques.FRAMES,
    every: EveryOption = 1,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, max=256, help="Threads of every row; may be given several times.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help=f"Rows to measure, by commas: {', '.join(KEYS)}.")] = None,
    error: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Error of the outputs that decomposing weights may make.")
    ] = 0.05,
    layers: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the convolutions that DeepMon's rule caches.")
    ] = Rule().layers,
    compressed: Annotated[
        Path | None,
        typer.Option(help="MODEL with decomposed weights, made before. Default: it is made now, in minutes."),
    ] = None,
    spec: SpecOption = None,
    json_file: JsonOption = None,
    html: HtmlOption = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Document whose section between bench:techniques markers is rewritten.")
    ] = None,
) -> None:
    """Take techniques one at a time, from matrix products to everything together, on a clip."""
    chosen = tuple(name.strip() for name in rows.split(",")) if rows else KEYS
    if compressed is not None and model is None:
        raise typer.BadParameter("expected the model that it was made of as well", param_hint="--compressed")
    with plain_errors():
        if markdown is not None:
            _check(markdown)
        found = measured(
            [model] if model else DEFAULTS, clip, size=size, start=start, frames=frames, every=every,
            threads=tuple(dict.fromkeys(threads or (1,))), rows=chosen, error=error, rule=Rule(layers=layers),
            spec=spec, compressed=compressed,
        )  # fmt: skip
        hand_out(found, json_file, html, *(table(one) for one in found["models"]))
        if markdown is not None:
            text = markdown.read_text(encoding="utf-8")
            markdown.write_text(document.update(text, [found]), encoding="utf-8")
            err.print(f"{markdown}: written", highlight=False, markup=False, soft_wrap=True)


def _check(markdown: Path) -> None:
    """Find out before anything is measured whether there is a place for it. Raises BenchError."""
    try:
        document.replaced(markdown.read_text(encoding="utf-8"), "techniques", "")
    except document.DocumentError as error:
        raise BenchError(f"{markdown}: {error}") from error


def measured(
    models: Sequence[str], clip: str, *, size: str | None = None, start: int = 0, frames: int = techniques.FRAMES,
    every: int = 1, threads: Sequence[int] = (1,), rows: Sequence[str] = KEYS, error: float = 0.05,
    rule: Rule | None = None, spec: Path | None = None, compressed: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Each model with each number of threads, one after the other: the report, ready for JSON."""
    if compressed is not None and not compressed.is_file():
        raise FileNotFoundError(2, "no such file", str(compressed))
    reports: list[dict[str, Any]] = []
    with open_source(clip, start=start, frames=frames, every=every) as source:
        images = [frame.image for frame in source]
    asked = compressed is None and not DECOMPOSED.isdisjoint(rows)
    samples = other_frames(clip, start, start + frames * every) if asked else None
    with Progress(console=err, transient=True) as shown:
        for name in models:
            opened = open_any(name, parse_size(size), spec)
            smaller: dict[str, Smaller] = {}
            for count in threads:
                bar = shown.add_task(model_name(name), total=len(images))
                one = techniques.techniques(
                    opened, images, source=model_source_of(name), samples=samples, spec=spec, threads=count,
                    only=rows, rule=rule, error=error, smaller=smaller, compressed=compressed,
                    progress=lambda what, done, bar=bar, name=name: shown.update(  # type: ignore[misc]
                        bar, completed=done, description=f"{model_name(name)}: {what}"
                    ),
                )  # fmt: skip
                reports.append(
                    one | {"model": model_name(name), "clip": Path(clip).name, "start": start, "every": every}
                )
    return {"kind": "techniques", "models": reports, "machine": reports[-1]["machine"]}


def other_frames(clip: str, start: int, stop: int) -> list[Image] | None:
    """Frames of a clip outside of [start, stop), evenly, for a compression to look at; None where there are too few.

    Of what has no end, as the scene, those after it.
    """
    with open_source(clip) as source:
        length = None if is_endless(clip) else source.total
    if length is None:
        with open_source(clip, start=stop, every=_STRIDE, frames=techniques.SAMPLES) as source:
            return [frame.image for frame in source]
    left = length - max(0, min(stop, length) - start)
    if left < techniques.SAMPLES:
        return None
    with open_source(clip, every=left // techniques.SAMPLES) as source:
        found = [frame.image for frame in source if not start <= frame.position < stop]
    return techniques.evenly(found, techniques.SAMPLES) if len(found) >= techniques.SAMPLES // 2 else None


def table(report: dict[str, Any]) -> Table:
    """The rows of one model; those that could not be measured are told below."""
    said = [f"{row['label']}: {row['reason'] or row['note']}" for row in report["rows"] if row["reason"] or row["note"]]
    said.append(
        "MiB: model + stream + workspace; agreement (IoU .5) and error: with direct convolution of whole frames"
    )
    shown = Table(
        title=f"{report['model']}, {report['size']}, {report['frames']} frames of {report['clip']}, "
        f"{threads_said(report['threads'])}, {report['precision']}",
        caption="\n".join([*said, f"energy {report['energy']}"]),
        caption_justify="left",
    )
    for name in ("", "p50 ms", "p99 ms", "fps", "x", "work", "MiB", "mJ", "boxes", "error"):
        shown.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
    for row in report["rows"]:
        if row["reason"] is not None:
            continue
        memory = sum(row[f"{part}_bytes"] for part in ("model", "stream", "workspace")) / MIB
        boxes = row["agreement"]
        shown.add_row(
            row["label"], f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", f"{row['fps']:.1f}", f"{row['speed']:.2f}",
            f"{row['work']:.0%}", f"{memory:.1f}", document.millijoules(row),
            "–" if boxes is None else f"{boxes['iou50']:.3f}", f"{row['error_mean']:.0e}",
        )  # fmt: skip
    return shown
