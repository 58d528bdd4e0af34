"""What the commands share: the program's own name, and how errors are said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from service.catalogue import NotPulled
from service.commands.common import model_source, own_name, plain_errors
from service.registry import ModelFailed


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The program is called by a path from the folder it is in, and is on no search path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    name = os.path.join(".venv", "bin", "afterimage")
    monkeypatch.setattr("sys.argv", [str(tmp_path / name)])
    return name


def test_the_program_is_named_as_it_was_called(called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_name() == called
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert own_name() == "afterimage"


def test_it_has_a_name_where_there_is_no_way_to_it_from_here(called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("os.path.relpath", fail)
    assert own_name().endswith(called)


def test_what_is_not_pulled_is_said_with_how_to_get_it(called: str, capsys: pytest.CaptureFixture[str]) -> None:
    missing = NotPulled("small", Path("kept"))
    wrapped = ModelFailed(str(missing))
    wrapped.__cause__ = missing
    for error in (missing, wrapped):
        with pytest.raises(typer.Exit), plain_errors():
            raise error
        said = f"error: small is not in kept yet; get it with: {called} models pull small\n"
        assert capsys.readouterr().err == said


def test_a_size_out_of_bounds_names_its_option() -> None:
    assert model_source(Path("a"), (8, 8)).size == (8, 8)
    with pytest.raises(typer.BadParameter, match="greater than or equal to 8") as caught:
        model_source(Path("a"), (4, 4))
    assert caught.value.param_hint == "--size"
