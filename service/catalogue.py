"""The catalogue of public models: what it lists, what of it is pulled, and which file a name stands for."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kernels import cache_folder
from service.download import (
    DownloadError,
    Limits,
    Remote,
    check_url,
    discard,
    download,
    exclusive,
    file_sha256,
    size_of,
)
from service.explain import first_problem
from service.model_spec import ModelSpec
from service.settings import ModelName

BUILT_IN = "people"
"""The name of the model that travels with the product."""
BUILT_IN_LICENCE = "Apache-2.0"
CATALOGUE_VARIABLE = "AFTERIMAGE_CATALOGUE"
FOLDER_VARIABLE = "AFTERIMAGE_MODELS_DIR"

_MAX_MODEL_BYTES = 2 << 30
_NAME_CUTOFF = 0.5
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"


class CatalogueError(Exception):
    """A name stands for no model, a model is not here or cannot be had, or a catalogue is wrong; says which."""


class NotPulled(CatalogueError):
    """A name is known and its model is not in the folder; `name` is what is to be pulled."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(f"{name} is not in {folder} yet")
        self.name = name


_Line = Annotated[str, Field(min_length=1, max_length=200, pattern=_NO_CONTROL)]


class Entry(BaseModel):
    """One public model. spec: the fields of the TOML specification that is written beside the pulled file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ModelName
    task: _Line
    licence: Literal["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"]
    """SPDX identifier; only permissive licences are let in."""
    url: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size_bytes: int = Field(gt=0, le=_MAX_MODEL_BYTES)
    source: Annotated[str, Field(min_length=1, max_length=500, pattern=_NO_CONTROL)]
    authors: _Line
    spec: Mapping[str, Any]

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        try:
            check_url(url)
        except DownloadError as error:
            raise ValueError(str(error)) from None
        return url

    @field_validator("spec")
    @classmethod
    def _valid(cls, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        if "family" not in spec:
            raise ValueError("expected at least a family")
        try:
            ModelSpec.model_validate(spec)
        except ValidationError as error:
            raise ValueError(first_problem(error, ModelSpec)) from None
        return spec

    @property
    def remote(self) -> Remote:
        """What is to be downloaded."""
        return Remote(self.url, self.sha256, self.size_bytes)


@dataclass(frozen=True)
class Pulled:
    """A model that lies in the folder of pulled models. downloaded: False if it was there already."""

    path: Path
    spec: Path
    downloaded: bool


class Catalogue:
    """The entries of one catalogue file, and the folder that their models are pulled into."""

    def __init__(self, entries: Mapping[str, Entry], folder: Path) -> None:
        self.entries = dict(entries)
        self.folder = folder

    @classmethod
    def load(cls, file: Path | None = None, folder: Path | None = None) -> Catalogue:
        """Read a catalogue file. Raises CatalogueError naming the entry, the field and what is wrong.

        file : None takes AFTERIMAGE_CATALOGUE, else the one of the product.
        folder : None takes AFTERIMAGE_MODELS_DIR, else `models` in the user's cache folder.
        """
        file = file or default_catalogue()
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise CatalogueError(f"{file}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CatalogueError(f"{file}: not valid TOML: {error}") from error
        entries = {name: _entry(file, name, table) for name, table in tables.items()}
        return cls(entries, folder or default_folder())

    def names(self) -> tuple[str, ...]:
        """Every name that stands for a model, the built-in one first."""
        return (BUILT_IN, *self.entries)

    def path(self, name: str) -> Path:
        """Where an entry's model lies once it is pulled."""
        return self.folder / f"{name}.onnx"

    def is_pulled(self, name: str) -> bool:
        """Whether an entry's model is there, judged by its size: only whole, verified files get their name."""
        return size_of(self.path(name)) == self.entries[name].size_bytes

    def entry(self, name: str) -> Entry:
        """The entry of a name. Raises CatalogueError with the nearest names."""
        if name not in self.entries:
            raise CatalogueError(self._unknown(name))
        return self.entries[name]

    def find(self, name: str) -> Path:
        """The pulled file of a name. Raises NotPulled, or CatalogueError for an unknown name."""
        self.entry(name)
        if not self.is_pulled(name):
            raise NotPulled(name, self.folder)
        return self.path(name)

    def pull(
        self,
        name: str,
        *,
        force: bool = False,
        on_progress: Callable[[int], None] = lambda done: None,
        on_wait: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
    ) -> Pulled:
        """Have an entry's model in the folder, verified, with its specification beside it.

        Nothing is downloaded if it is there and its SHA-256 is right, unless `force`. on_progress : bytes had so
        far. on_wait : called once if another process pulls the same model; this call waits for it.
        Raises CatalogueError with the reason, or OSError when the folder cannot be written.
        """
        entry = self.entry(name)
        target, spec = self.path(name), self.path(name).with_suffix(".toml")
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / f".{name}.lock", on_wait):
            if not force and self.is_pulled(name) and file_sha256(target) == entry.sha256:
                if not spec.is_file():
                    _write(spec, specification(entry))
                return Pulled(target, spec, downloaded=False)
            part = self.folder / f".{name}.part"
            if force:
                discard(part)
            try:
                download(entry.remote, part, on_progress, limits)
            except DownloadError as error:
                raise CatalogueError(f"{name}: {error}") from error
            _write(spec, specification(entry))  # first, so that no model is ever seen without it
            part.replace(target)
            discard(part)  # what is remembered of it
            return Pulled(target, spec, downloaded=True)

    def _unknown(self, name: str) -> str:
        path = Path(name)
        is_path = path.suffix == ".onnx" or len(path.parts) > 1
        near = difflib.get_close_matches(path.stem.lower().replace("_", "-"), self.names(), n=3, cutoff=_NAME_CUTOFF)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the names are {', '.join(self.names())}"
        return f"{name}: No such file; {hint}" if is_path else f"no model {name!r}; {hint}"


def default_catalogue() -> Path:
    """The catalogue file that names are looked up in: AFTERIMAGE_CATALOGUE, else the one of the product."""
    return _from_environment(CATALOGUE_VARIABLE) or _packaged("catalogue.toml")


def default_folder() -> Path:
    """The folder that pulled models are looked for in: AFTERIMAGE_MODELS_DIR, else one in the user's cache."""
    return _from_environment(FOLDER_VARIABLE) or cache_folder() / "models"


def find_model(reference: str) -> Path:
    """The ONNX file that a reference stands for; its TOML specification, if it has one, lies beside it.

    reference : the path of an existing file; "people" for the built-in model; or the name of a pulled one.
    Raises NotPulled, or CatalogueError: not in this installation, or unknown (and what is near).
    """
    path = Path(reference)
    if path.is_file():
        return path
    return built_in() if reference == BUILT_IN else Catalogue.load().find(reference)


def built_in() -> Path:
    """The file of the built-in model. Raises CatalogueError if this installation lacks it."""
    path = _packaged("default", f"{BUILT_IN}.onnx")
    if not path.is_file():
        raise CatalogueError(f"this installation has no built-in model: {path} is missing")
    return path


def specification(entry: Entry) -> str:
    """TOML of an entry's specification; says where the model comes from."""
    lines = [f"# {entry.task}; {entry.authors}, {entry.licence}", f"# {entry.source}", f"# {entry.url}"]
    return "\n".join(lines + [f"{field} = {_toml(value)}" for field, value in entry.spec.items()]) + "\n"


def _toml(value: object) -> str:
    """A string, number, boolean or array of them, as TOML writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)  # JSON has no inf and nan
    # JSON's strings are TOML's but for pairs of surrogates, hence no escapes, and one control character left as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _entry(file: Path, name: str, table: object) -> Entry:
    if not isinstance(table, dict):
        raise CatalogueError(f"{file}: {name}: expected a table, got {table!r}")
    if name == BUILT_IN:
        raise CatalogueError(f"{file}: {name}: this name is the built-in model's")
    try:
        return Entry.model_validate({**table, "name": name})
    except ValidationError as error:
        raise CatalogueError(f"{file}: {name}: {first_problem(error, Entry)}") from error


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _packaged(*parts: str) -> Path:
    return Path(str(resources.files("models").joinpath(*parts)))


def _write(path: Path, text: str) -> None:
    """Write a file so that it is seen whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
