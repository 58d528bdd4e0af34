"""The whole of it on Ray, in a network namespace: twelve streams, three members; one is killed, others come and go."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import why_not

ROOT = Path(__file__).parents[3]


def missing() -> str | None:
    """Why it cannot be tried here."""
    if importlib.util.find_spec("ray") is None:
        return "the extra `cluster` is not installed"
    if shutil.which("ss") is None:
        return "iproute2 is not installed"
    return why_not()


@pytest.mark.cluster
@pytest.mark.timeout(900)  # Ray takes half a minute to start where nothing else runs, and several where much does
def test_no_result_is_lost_but_those_under_way_and_none_is_crossed(tmp_path: Path) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    found = tmp_path / "found.json"
    words = ["--streams", "12", "--replicas", "3", "--fps", "3", "--seconds", "1", "--json", str(found)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cluster", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.exists(), done.stderr[-4000:]
    report = json.loads(found.read_text())
    assert report["passed"], json.dumps(report, indent=1)
    assert done.returncode == 0
    figures = report["figures"]
    assert figures["streams"] == 12
    assert figures["results"] == figures["sent"] - figures["lost"]
    assert figures["keyframes"] == figures["places"], "one for each member that a stream was at"
