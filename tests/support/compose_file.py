"""The compose file as Compose reads it: variables filled in, profiles chosen. Needs no engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "docker"
FILE = FOLDER / "compose.yaml"
EXAMPLE = FOLDER / ".env.example"
VARIABLE = re.compile(r"\$(?:\{(?P<name>\w+)(?:(?P<how>:?[-?])(?P<rest>[^}]*))?\}|(?P<bad>.))")
"""`${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`; a dollar sign before anything else is bad."""


def fill(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables filled in. Raises ValueError where one is required and missing."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found["name"], found["how"] or "", found["rest"] or ""
        if found["bad"]:
            raise ValueError(f"expected a variable in braces, got {found[0]!r}")
        given = variables.get(name)
        missing = given is None or (how.startswith(":") and not given)
        if missing and how.endswith("?"):
            raise ValueError(f"{name}: {rest}")
        return rest if missing and how.endswith("-") else given or ""

    return VARIABLE.sub(value, text)


def compose(variables: Mapping[str, str] | None = None, profiles: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file with its variables filled in, value by value, and the services that start with these profiles."""

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: filled(value) for key, value in part.items()}
        if isinstance(part, list):
            return [filled(item) for item in part]
        return fill(part, variables or {}) if isinstance(part, str) else part

    whole = filled(yaml.safe_load(FILE.read_text()))
    services = whole["services"].items()
    started = {name: one for name, one in services if not one.get("profiles") or set(one["profiles"]) & set(profiles)}
    return {**whole, "services": started}


def example() -> dict[str, str]:
    """The variables of `.env.example`, as if the # before each were gone."""
    return dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
