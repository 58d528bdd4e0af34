"""What the commands share: options, sizes, and errors that are said in one line."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import create_connection
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from rich.console import Console

from service.catalogue import NotPulled
from service.explain import problems
from service.families import Size
from service.settings import ModelSource

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

EXPECTED_ERRORS = {
    "cache.graph": ("GraphError",), "cache.onnx_import": ("ModelError",), "cache.tail": ("TailError",),
    "clients.python": ("ClientError",), "clients.wire": ("WireError",), "service.bench.errors": ("BenchError",),
    "service.calibration.budget": ("BudgetError",), "service.calibration.search": ("CalibrationError",),
    "service.capacity.box": ("BoxError",), "service.compression.errors": ("CompressionError",),
    "service.catalogue": ("CatalogueError",), "service.codec": ("CodecError",),
    "service.configuration": ("ConfigurationError",), "service.evaluate": ("EvaluationError",),
    "service.families": ("FamilyError",), "service.model_spec": ("SpecError",), "service.profile": ("ProfileError",),
    "service.recorder": ("RecorderError",), "service.registry": ("ModelFailed", "UnknownModel"), "service.sources":
    ("SourceError",), "service.traces": ("TracesError",), "service.keys": ("KeysError",),
    "service.mqtt.link": ("MqttError",),
    "service.lan.certificate": ("CertificateError",), "service.cluster.plan": ("ClusterError",),
}  # fmt: skip
"""By module, so that a command imports only those that it can run into: a server needs no video decoder."""


def parse_size(text: str | None) -> Size | None:
    """(W, H) of "640x384". Raises typer.BadParameter."""
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not width.strip().isdigit() or not height.strip().isdigit():
        raise typer.BadParameter(f"expected a size such as 640x384, got {text!r}")
    return int(width), int(height)


def model_source(path: Path, size: Size | None, spec: Path | None = None) -> ModelSource:
    """A model file with what the options say about it. Raises typer.BadParameter for a size out of bounds."""
    try:
        return ModelSource(path=path, size=size, spec=spec)
    except ValidationError as error:
        raise typer.BadParameter(problems(error)[0].says, param_hint="--size") from error


def own_name() -> str:
    """How to call this program from where it was called."""
    if shutil.which("afterimage"):
        return "afterimage"
    try:
        return os.path.relpath(sys.argv[0])
    except (OSError, ValueError):  # the current folder is gone, or on another drive
        return sys.argv[0]


SOURCE_HELP = (
    "Video file, folder of images, camera number, rtsp:// or http:// address of a camera, or scene: the built-in "
    "moving scene (scene:SEED for another)."
)
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Input of the network, pixels. Default: the model's own.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings. Default: afterimage.yaml in the current folder, if any."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as YAML; see `afterimage config show`."),
]
SpecOption = Annotated[
    Path | None, typer.Option("--spec", help="TOML specification. Default: the one beside the model, or a guess.")
]
StartOption = Annotated[int, typer.Option(min=0, help="Frames to pass over first.")]
FramesOption = Annotated[int | None, typer.Option(min=1, help="At most so many frames.")]
EveryOption = Annotated[int, typer.Option(min=1, help="Take every n-th frame.")]


@dataclass(frozen=True)
class Clip:
    """A source, and which of its frames: `start` are passed over first, every `every`-th is taken, at most `frames`."""

    source: str
    start: int = 0
    frames: int | None = None
    every: int = 1


_STRETCH = re.compile(r"(?P<source>.+)@(?P<start>\d+)(?:\+(?P<frames>\d+))?(?:/(?P<every>\d+))?")


def parse_clip(text: str, rest: Clip) -> Clip:
    """The clip of "clip.mp4@200+150/2": from frame 200 on 150 frames, every second one; `rest` tells what it does not.

    A file whose name looks like that is taken as a file. Raises typer.BadParameter.
    """
    found = None if Path(text).exists() else _STRETCH.fullmatch(text)
    if found is None:
        return replace(rest, source=text)
    frames, every = (None if found[name] is None else int(found[name]) for name in ("frames", "every"))
    if frames == 0 or every == 0:
        raise typer.BadParameter(
            f"expected one frame or more of {found['source']}, and every first or later, got {text!r}"
        )
    return Clip(found["source"], int(found["start"]), frames or rest.frames, every or rest.every)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what can be expected to go wrong into one line on stderr and exit status 1."""
    try:
        yield
    except Exception as error:
        if not is_expected(error):
            raise
        err.print(f"[bold red]error:[/] {_say(error)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def is_expected(error: Exception) -> bool:
    """Whether an error is the operating system's or one of `EXPECTED_ERRORS`."""
    known = [
        getattr(sys.modules[module], name)
        for module, names in EXPECTED_ERRORS.items() if module in sys.modules for name in names
    ]  # fmt: skip
    return isinstance(error, (OSError, *known))


_ANSWER_S = 10.0


def require_server(url: str) -> None:
    """Raise ConnectionError, saying how to start one, if nothing listens at a URL of a server or a stream."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ConnectionError(f"{url}: expected a URL such as http://127.0.0.1:8000")
    secure = parts.scheme in ("https", "wss")
    shown = f"{'https' if secure else 'http'}://{parts.netloc.rpartition('@')[2]}"
    try:
        create_connection((parts.hostname, parts.port or (443 if secure else 80)), _ANSWER_S).close()
    except ConnectionRefusedError as error:
        raise ConnectionError(
            f"nothing listens at {shown}; start a server with: {own_name()} serve  (or: make run)"
        ) from error
    except (OSError, ValueError) as error:
        raise ConnectionError(f"{shown} does not answer: {getattr(error, 'strerror', None) or error}") from error


def _say(error: Exception) -> str:
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    missing = error if isinstance(error, NotPulled) else error.__cause__
    if isinstance(missing, NotPulled):
        said += f"; get it with: {own_name()} models pull {missing.name}"
    return said.replace("[", r"\[")
