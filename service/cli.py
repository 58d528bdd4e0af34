"""The command line: `afterimage COMMAND`. Only the module of the command that is asked for is imported."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable

import typer

from service.startup import pause_collector, resume_collector

GROUPS = ("models", "bench", "config", "keys", "cluster")
"""Commands with commands of their own: an `app` in their module, in place of a `command`."""
COMMANDS = ("serve", "stream", "detect", "verify", "calibrate", "compress", "plan", *GROUPS)


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The application with some of its commands."""
    app = typer.Typer(
        name="afterimage",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Video inference on CPUs that recomputes only what changed.",
    )
    app.callback()(lambda: None)  # a command's name is said even where it is the only one
    for name in names:
        module = importlib.import_module(f"service.commands.{name}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.command)
    return app


def main() -> None:
    """Entry point of the `afterimage` script."""
    pause_collector()
    # NumPy's library starts a thread for each core of the host as it is imported; none of its products is large.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    asked = sys.argv[1:2]
    app = make_app(asked if asked and asked[0] in COMMANDS else COMMANDS)
    if asked != ["serve"]:  # which has it paused until its model is ready
        resume_collector()
    app()


if __name__ == "__main__":
    main()
