"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.compression.errors import CompressionError
from service.compression.output import check_output, check_report, write_output


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    return path


@pytest.mark.parametrize("name", ["small.onnx", "small.toml", "small.profile.json"])
def test_what_is_there_is_replaced_only_by_force(model, tmp_path, name):
    out = tmp_path / "small.onnx"
    check_output(out, model, force=False)
    (tmp_path / name).write_text("other")
    with pytest.raises(CompressionError, match=rf"{name} exists; --force replaces it"):
        check_output(out, model, force=False)
    check_output(out, model, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_model_is_never_written_over_itself(model, force):
    with pytest.raises(CompressionError, match="another file than the model itself"):
        check_output(model, model, force=force)


def test_places_that_cannot_be_written(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_output(tmp_path / "missing" / "small.onnx", model, force=True)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(CompressionError, match="got a folder"):
        check_output(tmp_path / "folder.onnx", model, force=True)
    with pytest.raises(CompressionError, match=r"ends in \.onnx"):
        check_output(tmp_path / "small.bin", model, force=True)


def test_the_specification_goes_along_and_what_was_there_goes(model, tmp_path):
    out, spec = tmp_path / "small.onnx", tmp_path / "model.toml"
    spec.write_text('family = "raw"\n')
    (tmp_path / "small.profile.json").write_text("of another")
    write_output(out, b"one", spec)
    assert out.read_bytes() == b"one"
    assert (tmp_path / "small.toml").read_text() == spec.read_text()
    assert not (tmp_path / "small.profile.json").exists()
    write_output(out, b"two", None)
    assert out.read_bytes() == b"two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.toml", "small.onnx"]


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def there(folder: Path) -> Path:
    """A compressed model with all that may lie beside it."""
    for name in ("small.onnx", "small.toml", "small.profile.json"):
        (folder / name).write_text(f"old {name}")
    (folder / "model.toml").write_text("new")
    return folder / "small.onnx"


def test_nothing_is_left_of_a_write_that_fails(model, tmp_path, monkeypatch):
    out = there(tmp_path)
    before = everything(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for spec in (None, tmp_path / "model.toml"):
        with pytest.raises(OSError, match="No space"):
            write_output(out, b"new", spec)
        assert everything(tmp_path) == before


@pytest.mark.parametrize(("has_spec", "failing"), [(False, "small.onnx"), (True, "small.onnx"), (True, "small.toml")])
def test_old_files_stay_where_one_cannot_be_replaced(model, tmp_path, monkeypatch, has_spec, failing):
    out, replace = there(tmp_path), Path.replace
    before, tried = everything(tmp_path), list[str]()

    def refuse(self: Path, target: Path) -> Path:
        tried.append(target.name)
        if target.name == failing:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_output(out, b"new", tmp_path / "model.toml" if has_spec else None)
    assert failing in tried
    assert everything(tmp_path) == before


def test_a_specification_that_was_not_there_goes_again(model, tmp_path, monkeypatch):
    out, replace = there(tmp_path), Path.replace
    (tmp_path / "small.toml").unlink()
    before = everything(tmp_path)

    def refuse(self: Path, target: Path) -> Path:
        if target == out:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_output(out, b"new", tmp_path / "model.toml")
    assert everything(tmp_path) == before


def test_a_model_is_as_readable_as_any_new_file(model, tmp_path):
    write_output(tmp_path / "small.onnx", b"new", None)
    (tmp_path / "any").touch()
    assert (tmp_path / "small.onnx").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("name", ["model.onnx", "model.toml", "small.onnx", "small.toml", "small.profile.json"])
def test_a_report_takes_no_other_files_place(model, tmp_path, name):
    with pytest.raises(CompressionError, match="a file for the report alone"):
        check_report(tmp_path / name, model, tmp_path / "small.onnx")


def test_places_of_reports(model, tmp_path):
    out = tmp_path / "small.onnx"
    for fine in (None, Path("-"), tmp_path / "report.json"):
        check_report(fine, model, out)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_report(tmp_path / "missing" / "report.json", model, out)
    with pytest.raises(CompressionError, match="got a folder"):
        check_report(tmp_path, model, out)
