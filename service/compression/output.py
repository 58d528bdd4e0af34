"""The files of a compressed model: it, and its specification; written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from service.compression.errors import CompressionError
from service.private_file import write_draft
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


def check_report(report: Path | None, model: Path, out: Path) -> None:
    """Raise CompressionError or OSError where figures cannot be written to `report`, or would replace another file.

    report : None and "-" are not files.
    """
    if report is None or str(report) == "-":
        return
    if not report.parent.is_dir():
        raise FileNotFoundError(2, "no such folder", str(report.parent))
    if report.is_dir():
        raise CompressionError(f"{report}: expected the name of a file, got a folder")
    for path in (model, out):
        if report.resolve() in (path.resolve(), path.with_suffix(".toml").resolve(), profile_path(path).resolve()):
            raise CompressionError(f"{report}: expected a file for the report alone, got one of {path.name}")


def write_output(out: Path, data: bytes, spec: Path | None) -> None:
    """Write a model, and a copy of the specification that it was read with; drop those of a model that was there.

    spec : TOML; None where the original has none, and needs none. Raises OSError; nothing is changed then.
    """
    beside, drafts = out.with_suffix(".toml"), list[Path]()
    try:
        model = _draft(out, data, drafts)
        if spec is None:
            model.replace(out)
            beside.unlink(missing_ok=True)
        else:
            fresh = _draft(beside, spec.read_bytes(), drafts)
            before = _draft(beside, beside.read_bytes(), drafts) if beside.exists() else None
            fresh.replace(beside)  # a model is never without its own
            try:
                model.replace(out)
            except OSError:
                if before is None:
                    beside.unlink()
                else:
                    before.replace(beside)
                raise
        profile_path(out).unlink(missing_ok=True)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def _draft(path: Path, data: bytes, drafts: list[Path]) -> Path:
    """A file of a new name beside one, on the disk before it takes its place; added to `drafts` at once."""
    drafts.append(write_draft(path, data))
    drafts[-1].chmod(0o666 & ~_umask())  # readable by whom any new file is; a draft is its owner's alone
    return drafts[-1]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
