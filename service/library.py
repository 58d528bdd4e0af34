"""What may be loaded while the server runs: the settings' models, the built-in one, pulled ones, and a folder's files.

Names come from the network. None is ever taken for a path of its own: what is not below the folder does not exist.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from service.catalogue import BUILT_IN, Catalogue, CatalogueError, NotPulled, built_in
from service.registry import ModelFailed, UnknownModel
from service.settings import ModelSource, Settings

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
MAX_FILES = 1000
"""Files of the folder that are listed."""


class Library:
    """Reads the disk: not for the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._models = dict(settings.models)
        self._folder = settings.model_folder

    def names(self) -> tuple[str, ...]:
        """Every reference that `find` knows, without the pulled models of a catalogue that cannot be read."""
        found = dict.fromkeys((*self._models, BUILT_IN, *self._files()))
        try:
            catalogue = Catalogue.load()
            found |= dict.fromkeys(name for name in catalogue.entries if catalogue.is_pulled(name))
        except CatalogueError:
            pass
        return tuple(found)

    def find(self, reference: str) -> tuple[str, ModelSource]:
        """The name and the source of a model: of the settings, built in, of the folder, or pulled.

        reference : a name, or the path of a file below the folder, with or without ".onnx". Raises UnknownModel, or
        ModelFailed where the model is known and not here.
        """
        if reference in self._models:
            return reference, self._models[reference]
        try:
            if reference == BUILT_IN:
                return BUILT_IN, ModelSource(path=built_in())
            file = self._file(reference)
            if file is not None:
                return file.stem, ModelSource(path=file)
            if MODEL_NAME.match(reference):
                return reference, ModelSource(path=Catalogue.load().find(reference))
        except NotPulled:
            raise ModelFailed(f"{reference} is not here yet; pull it where the server runs") from None
        except CatalogueError:
            pass
        raise UnknownModel(f"no model {reference[:128]!r} can be loaded; expected one of {', '.join(self.names())}")

    def _file(self, reference: str) -> Path | None:
        """An ONNX file below the folder, links followed; None if there is none or it lies elsewhere."""
        if self._folder is None or not reference or "\0" in reference:
            return None
        folder = self._folder.resolve()
        try:
            file = (folder / (reference if reference.endswith(".onnx") else f"{reference}.onnx")).resolve()
            inside = file.is_relative_to(folder) and file.suffix == ".onnx" and file.is_file()
        except (OSError, RuntimeError):  # too long a name, or links that go round
            return None
        return file if inside and MODEL_NAME.match(file.stem) else None

    def _files(self) -> list[str]:
        """The folder's files as references, in order."""
        if self._folder is None:
            return []
        files = islice(self._folder.rglob("*.onnx"), MAX_FILES)
        return sorted(file.relative_to(self._folder).with_suffix("").as_posix() for file in files)
