"""A Ray that is being started: whatever happens meanwhile, it is left to nobody."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from service.cluster.note import began, note_path


def test_a_start_that_is_broken_off_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = pytest.importorskip("service.cluster.control")
    monkeypatch.setenv("AFTERIMAGE_CLUSTER", str(tmp_path / "cluster.json"))
    folder, notes, sleep = tmp_path / "ray", [], time.sleep
    folder.mkdir()

    def interrupted(seconds: float) -> None:
        if not notes:
            notes.append(note_path().read_text())
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        control._start_head([sys.executable, "-c", "import time; time.sleep(600)"], "127.0.0.1", folder)
    pid = int(notes[0].partition('"pid": ')[2].partition(",")[0])
    assert began(pid) is None
    assert not folder.exists()
    assert not note_path().exists()
