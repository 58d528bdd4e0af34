"""The examples of docs/api.md run as printed, against a server with the real engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
from own_model import write_model
from service_fakes import RunningServer, make_settings, running_server

from clients.python import FrameResult, StreamClient
from service.registry import ModelRegistry
from service.settings import ModelSource

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/api.md").read_text()
SHELL, PYTHON = (re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL) for kind in ("sh", "python"))
ADDRESS = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "yard.onnx")
    people = write_model(tmp_path_factory.mktemp("own") / "people.onnx")
    settings = make_settings(models={"people": ModelSource(path=people)}, model_folder=folder)
    with running_server(ModelRegistry.from_settings(settings), settings) as running:
        yield running


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((96, 128, 3), 90, np.uint8))
    return tmp_path


def test_every_api_has_examples() -> None:
    assert len(SHELL) == 6
    assert len(PYTHON) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("block", SHELL, ids=["detect", "streams", "pictures", "models", "open inference", "deepstack"])
def test_shell(server: RunningServer, photo: Path, block: str) -> None:
    """Every line must succeed: --fail turns a status of 400 and more into an error."""
    script = 'set -eo pipefail\ncurl() { command curl -sS --fail --noproxy "*" "$@"; echo; }\n'
    with StreamClient(server.url, "door") as door:
        door.send((photo / "photo.jpg").read_bytes())
        assert isinstance(door.receive(60), FrameResult)
        run = subprocess.run(
            ["bash", "-c", script + block.replace(ADDRESS, f"127.0.0.1:{server.port}")],
            cwd=photo, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr + run.stdout
    if "mjpeg" in block:
        assert cv2.imread(str(photo / "last.jpg")).shape == cv2.imread(str(photo / "plain.jpg")).shape == (96, 128, 3)
        assert (photo / "film.mjpeg").read_bytes().count(b"Content-Type: image/jpeg") >= 1
    if "format=jpeg" in block:
        assert cv2.imread(str(photo / "boxes.jpg")).shape == (96, 128, 3)


def test_python(
    server: RunningServer, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photo)
    exec(compile(PYTHON[0].replace(ADDRESS, f"127.0.0.1:{server.port}"), "docs/api.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[")
