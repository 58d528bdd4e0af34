"""Where settings come from: options over the environment over a YAML file over defaults; and who said what.

A key is taken whole from the first that has it: a map is replaced, never mixed. `Settings` says what there is;
`docs/configuration.md` is written from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from service.explain import problems, unknown
from service.ingest.address import redact
from service.settings import ENV_PREFIX, Settings

FILE_VARIABLE = "AFTERIMAGE_CONFIG"
DEFAULT_FILE = Path("afterimage.yaml")
MAX_FILE_BYTES = 1 << 20
OTHER_VARIABLES = MappingProxyType({
    FILE_VARIABLE: "the YAML file of settings, where `--config` does not name one",
    "AFTERIMAGE_CACHE_DIR": "folder of kernels, pulled models and `--lan`; default: `~/.cache/afterimage`",
    "AFTERIMAGE_MODELS_DIR": "folder of pulled models; default: `models` in the folder above",
    "AFTERIMAGE_CATALOGUE": "a catalogue of models in place of the built-in one, TOML",
    "AFTERIMAGE_CLUSTER": "where `afterimage cluster up` notes what it started; default: `cluster.json` in that folder",
    "AFTERIMAGE_TOKEN": "token that `afterimage stream` shows to a server",
    "AFTERIMAGE_MQTT_PASSWORD": "password for the MQTT broker, where `mqtt_password_file` names no file",
    "AFTERIMAGE_AARCH64": "folder of the emulated machine that tests run on",
})  # fmt: skip
"""Variables that are no settings of the server."""
_LINK = re.compile(r"AFTERIMAGE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")
"""Kubernetes sets such variables in every pod beside a Service whose name begins with afterimage."""


class ConfigurationError(ValueError):
    """Settings that cannot be used; one line for each problem."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class Effective:
    """Settings, and for every key that is not a default where it came from."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None = None

    def origin(self, key: str) -> str:
        """Such as "default", "afterimage.yaml:3", "AFTERIMAGE_PORT" or "--port"."""
        return self.origins.get(key, "default")


@dataclass
class _Layer:
    """What one source says. `wrong` are lines on what it says that cannot be taken."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def load(
    options: Mapping[str, Any] | None = None, *, file: Path | None = None, pairs: tuple[str, ...] = ()
) -> Effective:
    """The settings in force.

    options : by field name, None for one that was not given; pairs : "key=value" with a YAML value
    file : a YAML file; None: the one that AFTERIMAGE_CONFIG names, or afterimage.yaml in the current folder, if any
    Raises ConfigurationError with everything that is wrong.
    """
    path = file or _file_of_environment() or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    written = YamlFile(path) if path is not None else None
    layers = [
        _Layer() if written is None else written.layer(),
        environment(),
        _of_pairs(pairs),
        _of_options(options or {}),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        origins |= layer.origins
    lines = [line for layer in layers for line in layer.wrong]
    try:
        settings = _settings(values)
    except ValidationError as error:
        for problem in problems(error, Settings):
            origin = origins.get(str(problem.key[0]), "") if problem.key else ""
            if written is not None and origin.startswith(f"{written.path}:"):
                origin = written.place(problem.key)
            lines.append(f"{origin}: {problem}" if origin else str(problem))
    if lines:
        raise ConfigurationError(lines)
    return Effective(settings, origins, path)


def check(path: Path) -> Settings:
    """The settings that a YAML file alone gives, whatever the environment says. Raises ConfigurationError."""
    written = YamlFile(path)
    layer = written.layer()
    lines = list(layer.wrong)
    try:
        settings = _settings(layer.values)
    except ValidationError as error:
        lines += [f"{written.place(problem.key)}: {problem}" for problem in problems(error, Settings)]
    if lines:
        raise ConfigurationError(lines)
    return settings


def _settings(values: Mapping[str, Any]) -> Settings:
    """Settings of these values alone: no variable begins with a NUL."""
    return Settings(**{"_env_prefix": "\0", **values})


class YamlFile:
    """A file of settings and the lines that they stand on. Raises ConfigurationError if it is no YAML map."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ConfigurationError(
                    [f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {path.stat().st_size}"]
                )
            text = path.read_text(encoding="utf-8")
            self._root = yaml.compose(text, yaml.SafeLoader)
            self._values = yaml.safe_load(text)
        except OSError as error:
            raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigurationError([f"{path}{_mark(error)}: not YAML: {_plain(error)}"]) from error
        if self._values is None:
            self._values = {}
        if not isinstance(self._values, dict):
            kind = type(self._values).__name__
            raise ConfigurationError([f'{path}:1: expected settings such as "port: 9000", got a {kind}'])

    def layer(self) -> _Layer:
        """Its settings; unknown keys and keys that stand twice are wrong."""
        layer = _Layer(wrong=[f"{self.path}:{line}: {key!r} stands here a second time" for key, line in self._twice()])
        for key, value in self._values.items():
            if key in Settings.model_fields:
                layer.values[key], layer.origins[key] = value, self.place((key,))
            else:
                layer.wrong.append(f"{self.place((key,))}: {unknown(key, Settings.model_fields, 'setting')}")
        return layer

    def place(self, key: tuple[Hashable, ...]) -> str:
        """FILE:LINE of the last part of a path of keys that stands in the file."""
        node, line = self._root, 1
        for part in key:
            below = _child(node, part)
            if below is None:
                break
            line, node = below
        return f"{self.path}:{line}"

    def _twice(self) -> Iterator[tuple[str, int]]:
        waiting, seen = [self._root], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen or not isinstance(node, yaml.CollectionNode):
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                names: set[str] = set()
                for name, value in node.value:
                    if name.value in names:
                        yield str(name.value), name.start_mark.line + 1
                    if isinstance(name, yaml.ScalarNode):
                        names.add(name.value)
                    waiting.append(value)
            else:
                waiting.extend(node.value)


def _child(node: Any, part: Hashable) -> tuple[int, Any] | None:
    """Line (from 1) and node of what a map or a list has under a key."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(part):
                return name.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def environment() -> _Layer:
    """Settings of variables AFTERIMAGE_NAME; maps and lists as JSON. Empty ones count as not set."""
    source, layer = EnvSettingsSource(Settings), _Layer()
    for key, item in Settings.model_fields.items():
        name = f"{ENV_PREFIX}{key}".upper()
        raw, _, is_complex = source.get_field_value(item, key)
        if raw is None or _LINK_VALUE.match(raw):
            continue
        try:
            layer.values[key] = source.prepare_field_value(key, item, raw, is_complex)
            layer.origins[key] = name
        except ValueError:
            layer.wrong.append(f"{name}: expected JSON, got {redact(raw)[:80]!r}")
    known = {f"{ENV_PREFIX}{key}".upper() for key in Settings.model_fields} | set(OTHER_VARIABLES)
    for variable, value in os.environ.items():
        link = _LINK.fullmatch(variable) or _LINK_VALUE.match(value)
        if variable.upper().startswith(ENV_PREFIX) and not link and variable.upper() not in known:
            layer.wrong.append(_unknown_variable(variable, known))
    return layer


def _unknown_variable(variable: str, known: set[str]) -> str:
    """By what stands behind the prefix, which is alike in all of them."""
    names = [name.removeprefix(ENV_PREFIX).lower() for name in sorted(known)]
    said = unknown(variable[len(ENV_PREFIX) :], names, "variable")
    if "; did you mean " not in said:
        return f"{variable}: no setting has this name; `afterimage config show --format env` lists them"
    near = said.partition("did you mean '")[2].rstrip("'?")
    return f"{variable}: no setting has this name; did you mean {ENV_PREFIX}{near.upper()}?"


def _of_pairs(pairs: tuple[str, ...]) -> _Layer:
    layer = _Layer()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals:
            layer.wrong.append(f"--set {pair}: expected key=value")
        elif key not in Settings.model_fields:
            layer.wrong.append(f"--set {key}: {unknown(key, Settings.model_fields, 'setting')}")
        else:
            try:
                layer.values[key], layer.origins[key] = yaml.safe_load(text), f"--set {key}"
            except (yaml.YAMLError, RecursionError) as error:
                layer.wrong.append(f"--set {key}: not YAML: {_plain(error)}")
    return layer


def _of_options(options: Mapping[str, Any]) -> _Layer:
    given = {key: value for key, value in options.items() if value is not None}
    return _Layer(given, {key: "MODEL" if key == "models" else f"--{key.replace('_', '-')}" for key in given})


def _file_of_environment() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else None


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f":{mark.line + 1}"


def _plain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "problem", None) or error).splitlines()[0]
