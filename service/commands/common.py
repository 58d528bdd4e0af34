"""What the commands share: options, sizes, and errors that are said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cache.graph import GraphError
from cache.onnx_import import ModelError
from cache.tail import TailError
from clients.python import ClientError
from clients.wire import WireError
from service.codec import CodecError
from service.evaluate import EvaluationError
from service.families import FamilyError, Size
from service.model_spec import SpecError
from service.registry import ModelFailed, UnknownModel
from service.sources import SourceError

out = Console()
err = Console(stderr=True)

EXPECTED_ERRORS = (
    ClientError, CodecError, EvaluationError, FamilyError, GraphError, ModelError, ModelFailed, OSError, SourceError,
    SpecError, TailError, UnknownModel, WireError,
)  # fmt: skip


def parse_size(text: str | None) -> Size | None:
    """(W, H) of "640x384". Raises typer.BadParameter."""
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not width.strip().isdigit() or not height.strip().isdigit():
        raise typer.BadParameter(f"expected a size such as 640x384, got {text!r}")
    return int(width), int(height)


SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Input of the network, pixels. Default: the model's own.")
]
SpecOption = Annotated[
    Path | None, typer.Option("--spec", help="TOML specification. Default: the one beside the model, or a guess.")
]
StartOption = Annotated[int, typer.Option(min=0, help="Frames to pass over first.")]
FramesOption = Annotated[int | None, typer.Option(min=1, help="At most so many frames.")]
EveryOption = Annotated[int, typer.Option(min=1, help="Take every n-th frame.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what can be expected to go wrong into one line on stderr and exit status 1."""
    try:
        yield
    except EXPECTED_ERRORS as error:
        err.print(f"[bold red]error:[/] {_say(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _say(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}".replace("[", r"\[")
    return str(error).replace("[", r"\[")
