"""How long a first start may take, by what was measured and by docs/deploy.md's table of boards."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOX = ROOT / "benchmarks/scale/boxes/amd-epyc-25-1-2-cores.json"
PEAK = 94
"""GFLOP/s of a core of the machine that was measured."""
BUSY = 2
"""How much longer it takes beside other programs; on the machine that was measured it was up to five times."""


def _peaks() -> dict[str, float]:
    """GFLOP/s of a core, by board."""
    table = (ROOT / "docs/deploy.md").read_text(encoding="utf-8").partition("| board | cores | P, GFLOP/s")[2]
    rows = [line.strip("|").split("|") for line in table.partition("\n\n")[0].splitlines()[2:]]
    return {row[0].strip(): float(row[2].split()[0]) for row in rows}


PEAKS = _peaks()
FIRST_START_S = {board: json.loads(BOX.read_text())["start"]["cold_s"] * PEAK / peak for board, peak in PEAKS.items()}
"""Estimated, of a board that does nothing else."""
SLOW_START_S = BUSY * max(FIRST_START_S.values())
