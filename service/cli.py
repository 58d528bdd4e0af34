"""The command line: `afterimage COMMAND`."""

from __future__ import annotations

import typer

from service.commands import bench, calibrate, detect, models, serve, stream, verify

app = typer.Typer(
    name="afterimage",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Video inference on CPUs that recomputes only what changed.",
)
app.command("serve")(serve.command)
app.command("stream")(stream.command)
app.command("detect")(detect.command)
app.command("verify")(verify.command)
app.command("calibrate")(calibrate.command)
app.add_typer(models.app, name="models")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point of the `afterimage` script."""
    app()


if __name__ == "__main__":
    main()
