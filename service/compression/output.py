"""The files of a compressed model: it, and its specification; written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from service.compression.errors import CompressionError
from service.profile import profile_path


def check_output(out: Path, model: Path, force: bool) -> None:
    """Raise CompressionError or OSError where a model cannot be written to `out`, before anything is computed.

    What lies beside it under its name (specification, profile) belongs to it: another model's would be taken for its.
    """
    if not out.parent.is_dir():
        raise FileNotFoundError(2, "no such folder", str(out.parent))
    if out.is_dir():
        raise CompressionError(f"{out}: expected the name of a file, got a folder")
    if out.suffix != ".onnx":
        raise CompressionError(f"{out}: expected a name that ends in .onnx")
    if out.exists() and out.samefile(model):
        raise CompressionError(f"{out}: expected another file than the model itself")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(13, "this folder cannot be written", str(out.parent))
    there = [path for path in (out, out.with_suffix(".toml"), profile_path(out)) if path.exists()]
    if there and not force:
        raise CompressionError(f"{there[0]} exists; --force replaces it")


def write_output(out: Path, data: bytes, spec: Path | None) -> None:
    """Write a model, and a copy of the specification that it was read with; drop those of a model that was there.

    spec : TOML; None where the original has none, and needs none. Raises OSError; nothing is changed then.
    """
    beside = out.with_suffix(".toml")
    fresh = {out: data} if spec is None else {beside: spec.read_bytes(), out: data}  # a model is never without its own
    written: list[Path] = []
    try:
        for path, content in fresh.items():
            new = path.with_name(f".{path.name}.new")
            written.append(new)
            new.write_bytes(content)
        profile_path(out).unlink(missing_ok=True)
        if spec is None:
            beside.unlink(missing_ok=True)
        for path, new in zip(fresh, written, strict=True):
            new.replace(path)
    finally:
        for new in written:
            new.unlink(missing_ok=True)
