"""`afterimage bench`: our speed against other engines on this machine, on whole frames, on clips, and by cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from service import codec
from service.bench import box as box_bench
from service.bench import dense as dense_bench
from service.bench import report, served
from service.bench.engines import HOW_TO_INSTALL, OTHERS, OWN, PRECISIONS, Precision
from service.bench.machine import installed
from service.bench.streams import MAX_STREAMS
from service.bench.streams import streams as measure_streams
from service.bench.variants import BUDGET, DENSE, EXACT
from service.bench.video import video as measure_video
from service.capacity.box import Box, default_path
from service.catalogue import find_model
from service.commands import techniques
from service.commands.common import (
    SOURCE_HELP,
    Clip,
    EveryOption,
    FramesOption,
    SizeOption,
    SpecOption,
    StartOption,
    err,
    model_source,
    out,
    parse_clip,
    parse_size,
    plain_errors,
)
from service.commands.reports import HtmlOption, JsonOption, hand_out, model_name, open_any, say_busy
from service.commands.verify import default_frames
from service.evaluate import CAMERA_QUALITY
from service.families import Size
from service.opened import OpenedModel, open_model
from service.registry import Engine, Model, load
from service.settings import Settings
from service.sources import SourceError, open_source

app = typer.Typer(no_args_is_help=True, help="Measure this machine: against other engines, and by cameras.")
app.command("techniques")(techniques.command)

STREAM_FRAMES = 100
STREAM_FPS = 15.0
EVERYBODY = ",".join(OTHERS)

ModelArgument = Annotated[str, typer.Argument(help="ONNX file, or a name that `afterimage models list` shows.")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=256, help="Threads of each engine.")]
AgainstOption = Annotated[str, typer.Option(help="Engines to compare with, by commas; empty: none.")]


@app.callback()
def bench() -> None:
    """Measure this machine: against other engines, and by cameras."""


@app.command("dense")
def dense(
    models: Annotated[
        list[str],
        typer.Argument(help="ONNX files, names of models, or synthetic:vgg16, :resnet18, :mobilenet, :replknet."),
    ],
    size: SizeOption = None,
    threads: ThreadsOption = 1,
    against: AgainstOption = EVERYBODY,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16, of every engine.")] = "float32",
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Turns of each engine.")] = dense_bench.ROUNDS,
    nodes: Annotated[bool, typer.Option("--nodes", help="Time our nodes one by one.")] = False,
    json_file: JsonOption = None,
    html: HtmlOption = None,
) -> None:
    """Compute whole frames, from pixels to tensors, in turn with other engines."""
    with plain_errors():
        engines = _engines(against)
        chosen = _precision(precision)
        opened = [(model_name(model), open_any(model, parse_size(size))) for model in models]
        with err.status("measuring") as status:
            found = dense_bench.dense(
                opened, threads=threads, against=engines, precision=chosen, rounds=rounds, nodes=nodes,
                progress=lambda name: status.update(f"measuring {name}"),
            )  # fmt: skip
        hand_out(found, json_file, html, _dense_table(found))


@app.command("video")
def video(
    model: ModelArgument,
    clips: Annotated[
        list[str],
        typer.Argument(
            metavar="CLIP...", help=f"{SOURCE_HELP} CLIP@200+150/2: from frame 200 on 150, every second one."
        ),
    ],
    size: SizeOption = None,
    start: StartOption = 0,
    frames: FramesOption = None,
    every: EveryOption = 1,
    threads: ThreadsOption = 1,
    against: AgainstOption = EVERYBODY,
    spec: SpecOption = None,
    json_file: JsonOption = None,
    html: HtmlOption = None,
) -> None:
    """Run clips through our engine and others, frame by frame in turn, from JPEG and pixels to boxes."""
    with plain_errors():
        engines = _engines(against)
        opened = open_model(find_model(model), parse_size(size), spec)
        reports = []
        for clip in [parse_clip(text, Clip("", start, frames, every)) for text in clips]:
            found = _one_clip(opened, clip, threads, engines)
            reports.append(found | {"model": model_name(model), "clip": Path(clip.source).name, "start": clip.start,
                                    "every": clip.every})  # fmt: skip
        if len(reports) == 1:
            hand_out(reports[0], json_file, html, _video_table(reports[0]), _clips_table(reports))
            return
        several = {"kind": "clips", "clips": reports, "machine": reports[-1]["machine"]}
        hand_out(several, json_file, html, _clips_table(reports))


def _one_clip(opened: OpenedModel, clip: Clip, threads: int, engines: tuple[str, ...]) -> dict[str, Any]:
    """A clip through everything, with a bar of how far it is."""
    frames = clip.frames or default_frames(clip.source)
    with (
        open_source(clip.source, start=clip.start, frames=frames, every=clip.every) as source,
        Progress(console=err, transient=True) as progress,
    ):
        bar = progress.add_task(f"{opened.model.name} on {source.name}", total=source.total)
        return measure_video(
            opened, (frame.image for frame in source), threads=threads, against=engines,
            progress=lambda done: progress.update(bar, completed=done),
        )  # fmt: skip


@app.command("streams")
def streams(
    model: ModelArgument,
    clip: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    count: Annotated[
        int | None, typer.Option("--streams", min=1, max=MAX_STREAMS, help="Cameras. Default: search how many fit.")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, max=240, help="Frames a second of each camera.")] = STREAM_FPS,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="How long each count is tried.")] = 5.0,
    size: SizeOption = None,
    start: StartOption = 0,
    frames: Annotated[int, typer.Option(min=2, max=1000, help="Frames of the clip, played there and back.")] = (
        STREAM_FRAMES
    ),
    every: EveryOption = 1,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker threads. Default: as the server.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Cores that a frame alone may use. Default: as the server.")
    ] = None,
    spec: SpecOption = None,
    json_file: JsonOption = None,
    html: HtmlOption = None,
) -> None:
    """How many cameras fit: the server's own scheduler, fed with paced JPEGs of a clip."""
    with plain_errors():
        settings = Settings()
        engine = Engine.of(settings)
        engine = replace(engine, threads=threads or engine.threads)
        loaded = load(model_name(model), model_source(find_model(model), parse_size(size), spec), engine)
        with open_source(clip, start=start, frames=frames, every=every) as source:
            jpegs = [codec.encode_jpeg(frame.image, CAMERA_QUALITY) for frame in source]
        if len(jpegs) < 2:
            raise SourceError(f"{clip}: expected at least 2 frames to play, got {len(jpegs)}")
        with err.status("serving cameras") as status:
            found = measure_streams(
                loaded, jpegs, count=count, fps=fps, seconds=seconds, workers=workers or settings.workers,
                progress=lambda run: status.update(f"{run['streams']} cameras: p99 {_ms(run['age_ms']['p99'])}"),
            )  # fmt: skip
        found |= {"clip": Path(clip).name, "threads": engine.threads}
        hand_out(found, json_file, html, _streams_table(found))


@app.command("box")
def box(
    models: Annotated[list[str], typer.Argument(help="ONNX files, or names that `afterimage models list` shows.")],
    size: SizeOption = None,
    rounds: Annotated[int, typer.Option(min=2, max=1000, help="Turns of each kind of frame.")] = box_bench.ROUNDS,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker threads. Default: as the server.")] = None,
    server: Annotated[bool, typer.Option(help="Start a server as well, for what lies outside of its workers.")] = True,
    cold: Annotated[bool, typer.Option("--cold", help="Also time a first start, which compiles all kernels.")] = False,
    name: Annotated[str | None, typer.Option(help="Of the kind of box. Default: its CPU and cores.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", allow_dash=True, help="File to write; - prints. Default: this user's.")
    ] = None,
) -> None:
    """What frames, streams and starts cost here, for `afterimage plan`; a minute or two for each model."""
    with plain_errors():
        engine = replace(Engine.of(Settings()), threads=1)
        pixels = parse_size(size)
        files = {model_name(model): find_model(model) for model in models}
        loaded = [load(called, model_source(file, pixels), engine) for called, file in files.items()]

        def serve(model: Model, jpegs: Sequence[bytes]) -> served.Served:
            return served.measure(files[model.name], f"{model.size[0]}x{model.size[1]}", jpegs)

        with err.status("measuring") as status:
            found, others = box_bench.box(
                loaded, rounds=rounds, workers=workers, serve=serve if server else None, name=name,
                cold_s=_first_start_s(files[loaded[0].name], loaded[0].size) if cold else None,
                progress=lambda what: status.update(f"measuring {what}"),
            )  # fmt: skip
        say_busy(others)
        if json_file is not None and str(json_file) == "-":
            print(found.model_dump_json(indent=1))
            return
        path = json_file or default_path()
        found = box_bench.merged(found, path)
        found.write(path)
        out.print(_box_table(found))
        out.print(f"{path}: written; plan with: afterimage plan --streams 100 --fps 5 --activity 0.1"
                  + (f" --box {path}" if json_file else ""), highlight=False, markup=False, soft_wrap=True)  # fmt: skip


def _first_start_s(model: Path, size: Size) -> float:
    """Of a server that has no compiled kernels."""
    with TemporaryDirectory() as folder:
        return round(served.start_s(model, f"{size[0]}x{size[1]}", Path(folder)), 1)


def _box_table(found: Box) -> Table:
    table = Table(title=f"{found.name}: ms of a core for a frame, by the share of tiles that changed")
    for title in ("model", "size", "still", "1%", "5%", "10%", "20%", "whole", f"x at {found.workers}", "MiB"):
        table.add_column(title, justify="left" if title == "model" else "right", overflow="fold")
    for row in found.models:
        times = [row.still_ms, *(row.ms(share) for share in (0.01, 0.05, 0.1, 0.2)), row.keyframe_ms]
        table.add_row(
            row.model, row.size, *(f"{ms:.2f}" for ms in times), f"{row.slowdown(found.workers):.2f}",
            f"{row.memory.stream / (1 << 20):.1f}",
        )  # fmt: skip
    return table


def _engines(against: str) -> tuple[str, ...]:
    """The engines of a list by commas; says which is not installed and how to get it. Raises typer.BadParameter."""
    names = tuple(dict.fromkeys(name.strip() for name in against.split(",") if name.strip()))
    for name in names:
        if name not in OTHERS:
            raise typer.BadParameter(f"expected some of {', '.join(OTHERS)}, got {name!r}", param_hint="--against")
        if installed(name) is None:
            err.print(f"{name} is not installed and is left out; {HOW_TO_INSTALL}", highlight=False, soft_wrap=True)
    return names


def _precision(text: str) -> Precision:
    for known in PRECISIONS:
        if text == known:
            return known
    raise typer.BadParameter(f"expected {' or '.join(PRECISIONS)}, got {text!r}", param_hint="--precision")


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ms"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _dense_table(found: dict[str, Any]) -> Table:
    table = Table(title=f"whole frames, ms, {report.threads_said(found['threads'])}, {found['precision']}")
    names = (OWN, *found["against"])
    titles = (report.NAMES[name] for name in found["against"])
    for name in ("model", "size", "ours", *titles, "ratio", "from tensor"):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for row in found["models"]:
        times = [_number(row[f"{name}_ms"]) for name in names]
        table.add_row(row["model"], row["size"], *times, _number(row["ratio_best"]), _number(row["ratio_best_tensor"]))
    table.add_row("geometric mean", "", *[""] * len(names), _number(found["geometric_mean"]),
                  _number(found["geometric_mean_tensor"]))  # fmt: skip
    return table


def _video_table(found: dict[str, Any]) -> Table:
    fraction = found["compute_fraction"]["mean"]
    table = Table(title=f"{found['model']}, {found['frames']} frames, {fraction:.1%} of the work, to boxes")
    for name in ("", "mean", "p50", "p99", "JPEG mean", "ratio", "JPEG ratio"):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    ratios = {BUDGET: (found["ratio"], found["ratio_jpeg"]), EXACT: (found["ratio_exact"], None)}
    ratios[DENSE] = (found["ratio_dense"], None)
    for name, ms in found["ms"].items():
        frame, (ratio, jpeg) = ms["frame"], ratios.get(name, (None, None))
        cells = (_ms(frame["mean"]), _ms(frame["p50"]), _ms(frame["p99"]), _ms(ms["jpeg"]["mean"]))
        table.add_row(report.NAMES[name], *cells, _number(ratio), _number(jpeg))
    return table


def _clips_table(reports: Sequence[dict[str, Any]]) -> Table:
    """A row for each clip: how much work was left, at what agreement, and how much faster that was."""
    table = Table(title="from a decoded frame to boxes: work left, agreement with dense (IoU .5/.75), speed")
    names = ("clip", "frames", "work", "median", "agreement", "noise floor", "speed", "saved")
    for name in names:
        table.add_column(name, justify="left" if name == "clip" else "right", overflow="fold")
    for found in reports:
        work, efficiency = found["compute_fraction"], found["conversion_efficiency"]["all"]["efficiency"]
        table.add_row(
            f"{Path(found['clip']).stem}@{found['start']}", f"{found['frames']}/{found['every']}",
            f"{work['mean']:.1%}", f"{work['median']:.1%}", _pair(found["agreement"]), _pair(found["noise_floor"]),
            _number(found["ratio"]), "–" if efficiency is None else f"{efficiency:.0%}",
        )  # fmt: skip
    others = sorted({report.NAMES[found["best"]] for found in reports if found["best"] is not None})
    table.caption = f"speed: over {' or '.join(others)}; saved: of the work that was left out, how much became time"
    return table


def _pair(found: dict[str, float] | None) -> str:
    if found is None:
        return "no boxes"
    return "/".join("1.0" if share == 1 else f"{share:.3f}".lstrip("0") for share in (found["iou50"], found["iou75"]))


def _streams_table(found: dict[str, Any]) -> Table:
    table = Table(title=f"{found['streams']} cameras at {found['fps_asked']:g} frames a second")
    for name in ("cameras", "fits", "age p50", "age p99", "dropped", "frames/s", "cores busy"):
        table.add_column(name, justify="right")
    for run in found["runs"]:
        table.add_row(
            str(run["streams"]), "yes" if run["fits"] else "no", _ms(run["age_ms"]["p50"]), _ms(run["age_ms"]["p99"]),
            f"{run['dropped']} of {run['offered']}", f"{run['fps']:.2f}", f"{run['cpu']:.2f}",
        )  # fmt: skip
    return table
