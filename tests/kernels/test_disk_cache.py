"""Kernels are compiled once: a second process finds all that it needs on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from pathlib import Path
import numba
import numpy as np
from numba.core import event
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from cache.tuning import tuned
from tests.cache.onnx_models import build, node, weights

constants = {"a": weights(32, 3, 3, 3), "b": weights(32, 32, 3, 3), "c": weights(32, 1, 3, 3)}
nodes = [node("Conv", "x a", "p", strides=[2, 2]), node("Conv", "p b", "q", pads=[1, 1, 1, 1]),
         node("Conv", "q c", "r", group=32), node("MaxPool", "r", "y", kernel_shape=[2, 2])]
model = load_model(build(nodes, constants, shape=(1, 3, 33, 47)))
with event.install_recorder("numba:compile") as compiled:
    session = Session(tuned(Plan.compile(model), model.sha256, Path(sys.argv[1])), threads=2)
    frame = np.zeros((33, 47, 3), np.uint8)
    for value in (10, 200, 200):
        frame[4:12, 4:12] = value
        print(float(session.push(frame).outputs["y"].sum()))

    @numba.njit
    def never_kept():
        return 1

    never_kept()
print(*sorted({done.data["dispatcher"].py_func.__name__ for _, done in compiled.buffer}), file=sys.stderr)
"""


def run(costs: Path) -> tuple[str, list[str]]:
    """What the program prints, and the functions that it had to compile; costs are kept in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(costs)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.split()


def files(folder: Path) -> dict[str, int]:
    """When each file below a folder was written, ns."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_second_start_compiles_and_measures_nothing(tmp_path: Path) -> None:
    """Beside the kernels of all other tests: what the first start finds there need not be compiled for it alone."""
    first, compiled = run(tmp_path)
    assert "never_kept" in compiled
    written = files(tmp_path)
    assert len(written) == 1, "measured costs"
    assert run(tmp_path) == (first, ["never_kept"])
    assert files(tmp_path) == written
