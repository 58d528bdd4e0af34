"""`afterimage detect`: one image, here or on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from pydantic import ValidationError
from rich.table import Table

from service import codec
from service.annotate import annotate
from service.catalogue import built_in, find_model
from service.commands.common import SizeOption, SpecOption, err, out, parse_size, plain_errors, require_server
from service.explain import problems
from service.pipeline import FramePipeline, Outcome
from service.recorder import RecorderError, refuse_source, write_jpeg
from service.registry import load
from service.settings import ModelSource

TIMEOUT_S = 60.0
JPEG_SUFFIXES = (".jpg", ".jpeg")


def command(
    image: Annotated[Path, typer.Argument(help="JPEG, PNG or WebP file.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="ONNX file, or a model's name; with --url, the name of one there. Default: people."
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Ask this server, as in http://127.0.0.1:8000.")] = None,
    size: SizeOption = None,
    spec: SpecOption = None,
    min_confidence: Annotated[float | None, typer.Option(min=0, max=1, help="Leave out weaker results.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the image with the results drawn, as JPEG: a .jpg file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Detect, classify or segment one image."""
    with plain_errors():
        if save is not None:
            if url is not None:
                raise typer.BadParameter("--save draws here and needs a local --model")
            check_save(save, image)
        data = image.read_bytes()
        if url is not None:
            reply = ask(url, data, model, min_confidence)
        else:
            file = find_model(model) if model else built_in()
            try:
                source = ModelSource(path=file, spec=spec, size=parse_size(size))
            except ValidationError as error:
                raise typer.BadParameter(problems(error)[0].says, param_hint="--size") from error
            outcome = run(source, data, min_confidence)
            reply = as_reply(outcome)
            if save is not None:
                write_jpeg(save, annotate(outcome.image, outcome.found.detections, outcome.found.classes))
    if as_json:
        print(json.dumps(reply))
    else:
        show(reply)


def check_save(save: Path, image: Path) -> None:
    """Raise RecorderError unless `save` is named as a JPEG and is not the image itself."""
    if save.suffix.lower() not in JPEG_SUFFIXES:
        raise RecorderError(f"{save}: expected a JPEG file (.jpg or .jpeg), got {save.suffix or 'no suffix'}")
    refuse_source(save, image)


def run(source: ModelSource, data: bytes, min_confidence: float | None) -> Outcome:
    """Run one encoded image through a model file."""
    loaded = load(source.path.stem, source)
    with err.status(f"compiling {loaded.name}"):
        pipeline = FramePipeline(loaded, loaded.open_session(), codec.DEFAULT_LIMITS)
        return pipeline.run(data, min_confidence=min_confidence)


def as_reply(outcome: Outcome) -> dict[str, Any]:
    """What was found as plain JSON values, boxes in pixels of the image."""
    found = outcome.found
    parts = {
        "detections": found.detections, "classes": found.classes, "masks": found.masks, "tensors": found.tensors,
    }  # fmt: skip
    reply: dict[str, Any] = {"width": outcome.width, "height": outcome.height}
    return reply | {name: msgspec.to_builtins(value) for name, value in parts.items() if value is not None}


def ask(url: str, data: bytes, model: str | None, min_confidence: float | None) -> dict[str, Any]:
    """POST the image to a server's /v1/detect. Raises OSError with what the server says."""
    parameters = {"model": model, "min_confidence": min_confidence}
    try:
        answer = httpx.post(
            f"{url.rstrip('/')}/v1/detect",
            params={name: value for name, value in parameters.items() if value is not None},
            content=data,
            headers={"content-type": codec.read_header(data).content_type},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if isinstance(error, httpx.ConnectError):
            require_server(url)
        raise ConnectionError(f"{url}: {error}") from error
    try:
        reply: dict[str, Any] = answer.json()
    except ValueError:
        raise ConnectionError(f"{url}: expected JSON, got HTTP {answer.status_code}; is it this server?") from None
    if answer.is_error:
        raise ConnectionError(f"{url}: {reply.get('detail', answer.status_code)}")
    return reply


def show(reply: dict[str, Any]) -> None:
    """Print boxes, classes or the names of what else there is."""
    table = Table()
    if "detections" in reply:
        for name in ("label", "score", "left", "top", "right", "bottom"):
            table.add_column(name, justify="left" if name == "label" else "right")
        for box in reply["detections"]:
            table.add_row(box["label"], f"{box['score']:.2f}", *(f"{v:.0f}" for v in box["xyxy"]))
    elif "classes" in reply:
        table.add_column("label")
        table.add_column("score", justify="right")
        for entry in reply["classes"]:
            table.add_row(entry["label"], f"{entry['score']:.3f}")
    else:
        table.add_column("tensor")
        table.add_column("shape")
        for tensor in reply.get("tensors", ()):
            table.add_row(tensor["name"], "x".join(map(str, tensor["shape"])))
    out.print(table)
