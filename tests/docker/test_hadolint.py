"""What hadolint says of every Dockerfile."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docker"


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("hadolint is not installed")
    command = [found, "--no-color", "--failure-threshold", "style", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*Dockerfile*")), ids=lambda file: file.name)
def test_it_has_nothing_to_say(file: Path) -> None:
    checked = hadolint(file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_would_say_it(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN apt-get install python3\n")
    checked = hadolint(bad)
    assert checked.returncode != 0
    assert "DL3006" in checked.stdout, "the image has no tag"
