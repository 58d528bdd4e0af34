"""What was started here is found again, and ended by its process alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cluster.note import Note, began, environment, make_token, note_path, read_note


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFTERIMAGE_CLUSTER", str(tmp_path / "cluster.json"))
    return tmp_path / "cluster.json"


def test_a_process_is_noted_and_ended(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    make_token(folder)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note = Note("127.0.0.1:6379", process.pid, began(process.pid) or 0, str(folder))
    note.write()
    assert note_path() == path
    assert read_note() == note
    assert note.token_file.stat().st_mode & 0o777 == 0o600
    assert len(note.token_file.read_text()) == 64
    note.end()
    assert process.wait(20) != 0
    process.communicate()
    assert read_note() is None
    assert not folder.exists()
    assert not path.exists()


def test_another_process_of_that_number_is_left_alone(path: Path, tmp_path: Path) -> None:
    other = Note("127.0.0.1:6379", os.getpid(), (began(os.getpid()) or 0) + 1, str(tmp_path / "ray"))
    other.write()
    assert read_note() is None
    other.end()
    assert began(os.getpid()) is not None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"address": 1}'])
def test_what_is_no_note(path: Path, text: str) -> None:
    path.write_text(text)
    assert read_note() is None


def test_ray_tells_nobody_and_asks_for_the_token() -> None:
    assert environment(None)["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "RAY_AUTH_MODE" not in environment(None)
    own = environment(Path("/run/token"))
    assert (own["RAY_AUTH_MODE"], own["RAY_AUTH_TOKEN_PATH"]) == ("token", "/run/token")
