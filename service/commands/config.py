"""`afterimage config`: the settings in force and where each came from; and whether a file of settings is right."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from service import configuration
from service.commands.common import ConfigOption, SetOption, out, plain_errors
from service.configuration import Effective
from service.explain import is_secret
from service.machine_cpus import cores
from service.machine_memory import memory_limit
from service.settings import ENV_PREFIX

MASK = "**********"

app = typer.Typer(name="config", no_args_is_help=True, help="Settings of the server: what is in force, and checks.")


class Form(StrEnum):
    """How settings are printed."""

    YAML = "yaml"
    JSON = "json"
    ENV = "env"


@app.command("show")
def show(
    config: ConfigOption = None,
    set_: SetOption = None,
    form: Annotated[Form, typer.Option("--format", help="yaml and env can be used as they are printed.")] = Form.YAML,
    source: Annotated[bool, typer.Option("--source", help="Say where each value came from.")] = False,
) -> None:
    """Print the settings in force. Secrets are masked."""
    with plain_errors():
        effective = configuration.load(file=config, pairs=tuple(set_ or ()))
    sys.stdout.write(render(effective, form, source))


@app.command("check")
def check(file: Annotated[Path, typer.Argument(help="A YAML file of settings.")]) -> None:
    """Check a file of settings, starting nothing. Exit status 1 if anything is wrong with it."""
    with plain_errors():
        configuration.check(file)
    out.print(f"{file}: right", highlight=False, markup=False, soft_wrap=True)


def render(effective: Effective, form: Form, source: bool) -> str:
    """The settings as text, a line each (but for maps and lists), in the order of the model."""
    values = plain(effective)
    if form is Form.JSON:
        told = {key: {"value": value, "source": effective.origin(key)} for key, value in values.items()}
        return json.dumps(told if source else values, indent=2) + "\n"
    lines = [f"# limits: {', '.join(map(str, filter(None, (cores(), memory_limit()))))}"] if source else []
    for key, value in values.items():
        if form is Form.YAML:
            first, *rest = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True).splitlines()
        else:
            first, rest = _variable(key, value), []
        lines.append(f"{first}  # {effective.origin(key)}" if source else first)
        lines += rest
    return "\n".join(lines) + "\n"


def plain(effective: Effective) -> dict[str, Any]:
    """The settings as JSON values, secrets masked at any depth."""
    values = effective.settings.model_dump(mode="json")
    return {key: _masked(key, value) for key, value in values.items()}


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(name, inner) for name, inner in value.items()}
    if is_secret(key, value):
        return [MASK] * len(value) if isinstance(value, list) else MASK
    return [_masked("", item) for item in value] if isinstance(value, list) else value


def _variable(key: str, value: Any) -> str:
    name = f"{ENV_PREFIX}{key}".upper()
    if value is None:
        return f"{name}="
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{name}={shlex.quote(text)}"
