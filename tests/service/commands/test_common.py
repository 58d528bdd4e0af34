"""What can be expected to go wrong is known by name, and every name is right."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from service.commands.common import EXPECTED_ERRORS, is_expected


@pytest.mark.parametrize("module", EXPECTED_ERRORS)
def test_every_name_is_an_exception(module: str) -> None:
    for name in EXPECTED_ERRORS[module]:
        found = getattr(importlib.import_module(module), name)
        assert issubclass(found, Exception)
        assert is_expected(found.__new__(found))


def test_what_nobody_expects_is_not() -> None:
    assert is_expected(FileNotFoundError(2, "no such file", "a"))
    for error in (ValueError("a"), KeyError("a"), RuntimeError("a")):
        assert not is_expected(error)


def test_a_server_imports_no_video_decoder_and_no_benchmark() -> None:
    script = (
        "import sys; from service.cli import make_app; make_app(['serve']); "
        "print(sorted({'av', 'service.bench', 'service.scene', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
