"""Errors of validation in words: which key, what was expected, what came. Knows pydantic and no files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from service.ingest.address import redact

LONGEST_VALUE = 80
_SECRET = re.compile(r"(^|_)(secret|password|token|key)s?($|_)")
_EXPECTED = MappingProxyType({
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "missing": "a value",
    "dict_type": "names with values",
    "mapping_type": "names with values",
    "model_type": "names with values",
    "model_attributes_type": "names with values",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "string_pattern_mismatch": "text that matches {pattern}",
})  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `key` is the path to it, `says` is for people: expected X, got Y."""

    key: tuple[str | int, ...]
    says: str

    @property
    def name(self) -> str:
        """The path with dots; empty for the whole."""
        return ".".join(str(part) for part in self.key)

    def __str__(self) -> str:
        return f"{self.name}: {self.says}" if self.key else self.says


def problems(error: ValidationError, model: type[BaseModel] | None = None) -> list[Problem]:
    """Every problem of an error, in pydantic's order. model : whose keys unknown ones are compared with."""
    return [_problem(item, model) for item in error.errors(include_url=False)]


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first of them, in one line."""
    return str(problems(error, model)[0])


def unknown(key: object, known: Iterable[str], kind: str = "key") -> str:
    """That a name is not known, and which one it is nearest to."""
    names = list(known)
    near = difflib.get_close_matches(str(key).lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names) or 'none'}"
    return f"unknown {kind} {str(key)[:LONGEST_VALUE]!r}; {hint}"


def is_secret(name: str, value: object = None) -> bool:
    """Whether a value must not be shown, by its type or by its key's name."""
    if isinstance(value, SecretStr | SecretBytes):
        return True
    return bool(_SECRET.search(name.lower())) and not isinstance(value, bool | int | float | None)


def _problem(item: Mapping[str, Any], model: type[BaseModel] | None) -> Problem:
    key, kind = tuple(part for part in item["loc"] if part != "[key]"), str(item["type"])
    if kind == "extra_forbidden":
        parent = None if model is None else _model_at(model, key[:-1])
        names = () if parent is None else tuple(parent.model_fields)
        return Problem(key, unknown(key[-1], names) if names else f"unknown key {key[-1]!r}")
    if kind in ("value_error", "assertion_error"):
        return Problem(key, str(item["msg"]).partition(", ")[2])
    template = _EXPECTED.get(kind)
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in item.get("ctx", {}).items()}
    says = f"expected {template.format(**limits)}" if template else _lower(str(item["msg"]))
    if kind == "missing":
        return Problem(key, f"{says}, got none")
    came = item["input"]
    secret = any(is_secret(str(part), "" if kind == "string_type" else came) for part in key)
    return Problem(key, f"{says}, got {'a value that is not shown' if secret else _short(came)}")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _short(value: object) -> str:
    shown = redact(repr(value))
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 3]}..."


def _model_at(annotation: Any, path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model at the end of a path of keys, through maps, lists and options."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return annotation
        field = annotation.model_fields.get(str(path[0]))
        return None if field is None else _model_at(field.annotation, path[1:])
    origin, parts = get_origin(annotation), get_args(annotation)
    below = isinstance(origin, type) and issubclass(origin, dict | list | tuple)  # an option is on the same level
    if below and not path:
        return None
    inner = parts[-1:] if origin is dict else parts
    found = (_model_at(part, path[1:] if below else path) for part in inner)
    return next((model for model in found if model is not None), None)
