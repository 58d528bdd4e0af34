"""`afterimage serve`: the server."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from service import configuration, logs
from service import serve as server
from service.catalogue import BUILT_IN, built_in, find_model
from service.commands.common import (
    ConfigOption,
    SetOption,
    SizeOption,
    err,
    model_source,
    own_name,
    parse_size,
    plain_errors,
)
from service.keys import read_keys
from service.lan.joins import open_joins
from service.limits import too_small
from service.malloc import bound_pools
from service.registry import ModelRegistry
from service.settings import EVERYWHERE


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
    lan: Annotated[
        bool,
        typer.Option("--lan", help="Serve https to phones of this network; a QR code in the terminal lets them in."),
    ] = False,
    size: SizeOption = None,
    exact: Annotated[bool, typer.Option("--exact", help="Thresholds zero: bit for bit a full recompute.")] = False,
    workers: Annotated[int | None, typer.Option(help="Streams computed at once. Default: the cores, up to 8.")] = None,
    threads: Annotated[int | None, typer.Option(help="Cores for a frame that is alone. Default: as workers.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Serve models over WebSocket and HTTP.

    Options win over the environment (AFTERIMAGE_NAME), that over the YAML file, that over defaults.
    """
    bound_pools()
    pixels = parse_size(size)
    given: dict[str, object] = {
        "host": host,
        "port": port,
        "lan": lan or None,
        "exact": exact or None,
        "workers": workers,
        "threads": threads,
    }
    if models:
        with plain_errors():
            files = [find_model(reference) for reference in models]
        names = [path.stem for path in files]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise typer.BadParameter(f"two models are called {twice!r}; rename one of the files")
        given["models"] = {path.stem: model_source(path, pixels) for path in files}
    with plain_errors():
        effective = configuration.load(given, file=config, pairs=tuple(set_ or ()))
    settings = effective.settings
    if settings.lan and effective.origin("host") == "default":
        settings = settings.model_copy(update={"host": EVERYWHERE[0]})  # at whatever addresses come and go
    logs.set_up(settings.log_format, settings.log_level, err)
    if (reason := too_small()) is not None:
        err.print(f"afterimage: {reason}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    if effective.file is not None:
        logging.getLogger("afterimage.serve").info("settings of %s", effective.file)
    if not settings.models:
        with plain_errors():
            own = model_source(built_in(), pixels)
        settings = settings.model_copy(update={"models": {BUILT_IN: own}})
    with plain_errors():
        registry = ModelRegistry.from_settings(settings)
        if settings.keys_file is not None:
            read_keys(settings.keys_file)
        if settings.lan:
            open_joins(settings)
        registry.get()  # a default model that cannot be loaded is said at once, before anything listens
        hint = "" if settings.log_format == "json" else f"{own_name()} stream scene"
        server.serve(settings, registry, try_next=hint)
