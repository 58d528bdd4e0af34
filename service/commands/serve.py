"""`afterimage serve`: the server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.logging import RichHandler

from service import serve as server
from service.commands.common import SizeOption, err, parse_size, plain_errors
from service.registry import ModelRegistry
from service.settings import ModelSource, Settings


def command(
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="ONNX files; the first is the default model.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port. Default: 8000.")] = None,
    size: SizeOption = None,
    exact: Annotated[bool, typer.Option("--exact", help="Thresholds zero: bit for bit a full recompute.")] = False,
) -> None:
    """Serve models over WebSocket and HTTP. Other settings come from the environment, as AFTERIMAGE_NAME."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", datefmt="%X", handlers=[RichHandler(console=err)])
    given: dict[str, object] = {"host": host, "port": port, "exact": exact or None}
    if models:
        pixels = parse_size(size)
        for path in models:
            if not path.is_file():
                raise typer.BadParameter(f"no such file: {path}")
        names = [path.stem for path in models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise typer.BadParameter(f"two models are called {twice!r}; rename one of the files")
        given["models"] = {path.stem: ModelSource(path=path, size=pixels) for path in models}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        problem = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    if not settings.models:
        raise typer.BadParameter("no model: give an ONNX file, as in  afterimage serve yolox_nano.onnx")
    with plain_errors():
        registry = ModelRegistry.from_settings(settings)
        registry.get()  # a default model that cannot be loaded is said at once, before anything listens
        server.serve(settings, registry)
