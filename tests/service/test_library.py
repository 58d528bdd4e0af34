"""What may be loaded by name: no name from the network reaches a file that it should not."""

from __future__ import annotations

from pathlib import Path

import pytest
from service_fakes import make_settings

from service.catalogue import built_in
from service.library import Library
from service.registry import ModelFailed, UnknownModel
from service.settings import ModelSource


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, with a file beside it that is none of its own; the current folder has one too."""
    monkeypatch.setenv("AFTERIMAGE_MODELS_DIR", str(tmp_path / "pulled"))
    inside = tmp_path / "models"
    (inside / "yard").mkdir(parents=True)
    for file in ("cars.onnx", "yard/dogs.onnx", "notes.txt", "yard/bad name.onnx"):
        (inside / file).write_bytes(b"x")
    (tmp_path / "secret.onnx").write_bytes(b"x")
    (inside / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    (inside / "own-link.onnx").symlink_to(inside / "cars.onnx")
    (inside / "loop.onnx").symlink_to(inside / "loop.onnx")
    (inside / "folder.onnx").mkdir()
    monkeypatch.chdir(tmp_path)
    return inside


def test_files_of_the_folder(folder: Path) -> None:
    library = Library(make_settings(model_folder=folder))
    assert library.find("cars") == library.find("cars.onnx") == ("cars", ModelSource(path=folder / "cars.onnx"))
    assert library.find("yard/dogs") == ("dogs", ModelSource(path=folder / "yard/dogs.onnx"))
    assert library.find("own-link")[1].path == folder / "cars.onnx"
    assert {"people", "cars", "yard/dogs"} <= set(library.names())


@pytest.mark.parametrize(
    "reference",
    ["../secret", "../secret.onnx", "link", "loop", "folder", "secret", "secret.onnx", "notes.txt", "notes",
     "yard/bad name", "", ".", "..", "/", "cars\0", "a" * 5000, "yard/../../secret"],
)  # fmt: skip
def test_nothing_outside_the_folder_exists(folder: Path, reference: str) -> None:
    with pytest.raises(UnknownModel, match="can be loaded; expected one of people"):
        Library(make_settings(model_folder=folder)).find(reference)


def test_an_absolute_path_is_a_path_below_no_folder(folder: Path) -> None:
    for settings in (make_settings(model_folder=folder), make_settings()):
        with pytest.raises(UnknownModel):
            Library(settings).find(str(folder.parent / "secret.onnx"))


def test_without_a_folder_there_are_the_settings_models_and_the_built_in_one(folder: Path) -> None:
    source = ModelSource(path=folder / "cars.onnx", size=(64, 48))
    library = Library(make_settings(models={"mine": source}))
    assert library.find("mine") == ("mine", source)
    assert library.find("people") == ("people", ModelSource(path=built_in()))
    assert library.names() == ("mine", "people")
    with pytest.raises(UnknownModel):
        library.find("cars")


def test_a_model_of_the_catalogue_that_is_not_pulled_says_so_and_no_path(folder: Path) -> None:
    with pytest.raises(ModelFailed, match="not here yet; pull it where the server runs") as caught:
        Library(make_settings()).find("yolox-nano")
    assert str(folder.parent) not in str(caught.value)


def test_a_broken_catalogue_hides_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERIMAGE_CATALOGUE", str(folder / "notes.txt"))
    library = Library(make_settings(model_folder=folder))
    assert "cars" in library.names()
    with pytest.raises(UnknownModel):
        library.find("yolox-nano")
