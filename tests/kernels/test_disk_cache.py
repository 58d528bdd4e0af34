"""Kernels are compiled once: a second process finds all that it needs on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import numpy as np
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from cache.tuning import tuned
from tests.cache.onnx_models import build, node, weights

constants = {"a": weights(32, 3, 3, 3), "b": weights(32, 32, 3, 3), "c": weights(32, 1, 3, 3)}
nodes = [node("Conv", "x a", "p", strides=[2, 2]), node("Conv", "p b", "q", pads=[1, 1, 1, 1]),
         node("Conv", "q c", "r", group=32), node("MaxPool", "r", "y", kernel_shape=[2, 2])]
model = load_model(build(nodes, constants, shape=(1, 3, 33, 47)))
session = Session(tuned(Plan.compile(model), model.sha256), threads=2)
frame = np.zeros((33, 47, 3), np.uint8)
for value in (10, 200, 200):
    frame[4:12, 4:12] = value
    print(float(session.push(frame).outputs["y"].sum()))
"""


def run(folder: Path) -> str:
    """What the program prints, with kernels kept in a folder."""
    environment = {**os.environ, "AFTERIMAGE_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> dict[str, int]:
    """When each file below a folder was written, ns."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_second_start_compiles_and_measures_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    written = files(tmp_path)
    assert any(name.endswith(".nbc") for name in written), "machine code"
    assert any("costs" in name for name in written), "measured costs"
    assert run(tmp_path) == first
    assert files(tmp_path) == written
