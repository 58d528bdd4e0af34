"""`afterimage serve`: the server."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.logging import RichHandler

from service import serve as server
from service.catalogue import BUILT_IN, built_in, find_model
from service.commands.common import SizeOption, err, model_source, own_name, parse_size, plain_errors
from service.keys import read_keys
from service.registry import ModelRegistry
from service.settings import Settings


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="ONNX files, or names that `afterimage models list` shows; the first is the default model. "
            "Without any: the built-in one.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port. Default: 8000.")] = None,
    size: SizeOption = None,
    exact: Annotated[bool, typer.Option("--exact", help="Thresholds zero: bit for bit a full recompute.")] = False,
) -> None:
    """Serve models over WebSocket and HTTP. Other settings come from the environment, as AFTERIMAGE_NAME."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", datefmt="%X", handlers=[RichHandler(console=err)])
    pixels = parse_size(size)
    given: dict[str, object] = {"host": host, "port": port, "exact": exact or None}
    if models:
        with plain_errors():
            files = [find_model(reference) for reference in models]
        names = [path.stem for path in files]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise typer.BadParameter(f"two models are called {twice!r}; rename one of the files")
        given["models"] = {path.stem: model_source(path, pixels) for path in files}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        problem = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    if not settings.models:
        with plain_errors():
            own = model_source(built_in(), pixels)
        settings = settings.model_copy(update={"models": {BUILT_IN: own}})
    with plain_errors():
        registry = ModelRegistry.from_settings(settings)
        if settings.keys_file is not None:
            read_keys(settings.keys_file)
        registry.get()  # a default model that cannot be loaded is said at once, before anything listens
        server.serve(settings, registry, try_next=f"{own_name()} stream scene")
