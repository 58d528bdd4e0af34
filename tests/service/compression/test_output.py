"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.compression.errors import CompressionError
from service.compression.output import check_output, write_output


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


def test_nothing_is_left_of_a_write_that_fails(model, tmp_path, monkeypatch):
    out = tmp_path / "small.onnx"
    out.write_bytes(b"old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_output(out, b"new", None)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "small.onnx"]
