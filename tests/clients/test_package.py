"""The client as a package of its own: built, installed into an empty folder, and used with nothing else beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from service_fakes import FakeEngine, RunningServer, image

ROOT = Path(__file__).parents[2]
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ITS = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
DEPENDENCIES = ("msgspec", "websockets")

USE = """
import asyncio, json, sys
site, needed, url, picture = sys.argv[1:]
sys.path[:0] = [site, needed]
from afterimage_client import AsyncStreamClient, FrameResult, Policy, StreamClient, StreamOptions

frame = open(picture, "rb").read()
options = StreamOptions(policy=Policy.ALL)
with StreamClient(url, "sync", options) as client:
    boxes = [result.result.detections[0].label for result in client.results([frame] * 3)]

async def main():
    async with AsyncStreamClient(url, "async", options) as client:
        return [result.seq async for result in client.results([frame] * 3)]

seqs = asyncio.run(main())
modules = {name.partition(".")[0] for name in sys.modules}
paths = {getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if "afterimage" in name}
print(json.dumps({"boxes": boxes, "seqs": seqs, "modules": sorted(modules), "paths": sorted(paths)}))
"""

TYPED = """
from afterimage_client import AsyncStreamClient, Detection, Event, FrameResult, FramesLost, Mask, Policy
from afterimage_client import StreamClient, StreamOptions
from afterimage_client.wire import Hello


def boxes(url: str, frames: list[bytes]) -> list[tuple[float, float, float, float]]:
    found: list[Detection] = []
    with StreamClient(url, "door", StreamOptions(policy=Policy.ALL, tracks=True)) as client:
        window: int = client.ready.window if client.ready else client.credits
        for result in client.results(frames[:window]):
            found.extend(result.result.detections or ())
    return [one.xyxy for one in found]


async def seqs(client: AsyncStreamClient) -> list[int]:
    event: Event
    lost: list[int] = []
    async for event in client:
        if isinstance(event, FramesLost):
            lost += event.seqs
        elif isinstance(event, FrameResult):
            masks: tuple[Mask, ...] | None = event.result.masks
            lost.append(event.seq if masks is None else 0)
    return lost


StreamOptions(policy="sometimes")  # type: ignore[arg-type]
StreamOptions(fps=3)  # type: ignore[call-arg]
reveal: str = StreamClient("http://127.0.0.1").credits  # type: ignore[assignment]
Hello(model=3)  # type: ignore[arg-type]
from afterimage_client import Nonsense  # type: ignore[attr-defined]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it and nothing else. It is built from a copy, which leaves no traces here."""
    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "browser")
    shutil.copytree(ROOT / "clients", folder / "clients", ignore=ignored)
    quiet = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-build-isolation",
        "--no-deps",
        "--no-compile",
    ]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder / "site")]
    done = subprocess.run([*command, str(folder / "clients/python")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_what_is_in_it(site: Path) -> None:
    names = {path.name for path in site.iterdir()}
    assert names == {"afterimage_client", f"afterimage_client-{ITS['version']}.dist-info"}
    here = {path.relative_to(ROOT / "clients") for path in (ROOT / "clients").rglob("*.py")}
    assert {path.relative_to(site / "afterimage_client") for path in (site / "afterimage_client").rglob("*.py")} == here
    assert (site / "afterimage_client/py.typed").is_file()
    assert next(site.glob("*.dist-info/licenses/LICENSE")).read_text() == (ROOT / "LICENSE").read_text()


def test_it_streams_with_its_dependencies_alone(
    site: Path, server: RunningServer, engine: FakeEngine, tmp_path: Path
) -> None:
    needed = tmp_path / "needed"
    needed.mkdir()
    for name in DEPENDENCIES:
        (needed / name).symlink_to(Path(find_spec(name).origin).parent)
    (tmp_path / "50.jpg").write_bytes(image(50))
    arguments = [str(site), str(needed), server.url, str(tmp_path / "50.jpg")]
    command = [sys.executable, "-I", "-S", "-c", USE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["boxes"] == ["grey5"] * 3
    assert told["seqs"] == [1, 2, 3]
    assert not {"numba", "onnx", "fastapi", "cv2", "numpy", "clients", "service", "httpx"} & set(told["modules"])
    assert all(path.startswith(str(site)) for path in told["paths"])


def test_a_users_code_is_typed(site: Path, tmp_path: Path) -> None:
    """Strict mypy finds what is wrong in the last lines, and nothing else."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "use.py").write_text(TYPED)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n[mypy-numpy.*,supervision.*]\nfollow_imports = skip\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "use.py"]
    environment = {**os.environ, "MYPYPATH": str(site), "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_of_the_products_version_and_needs_what_the_product_needs() -> None:
    assert ITS["version"] == OURS["version"]
    assert ITS["requires-python"] == OURS["requires-python"]
    assert {line.partition(">")[0] for line in ITS["dependencies"]} == set(DEPENDENCIES)
    assert set(ITS["optional-dependencies"]) == {"supervision", "tiles"}
