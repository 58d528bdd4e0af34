"""The rehearsal of `verify`: frames are drawn by seed, and what is drawn is compared."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from service.audits.clip import DRAWN, ClipAudits
from service.audits.measure import Measure
from service.calibration.budget import Budget
from service.families.raw import Raw
from service.model_spec import ModelSpec

FRAME = np.zeros((8, 8, 3), np.uint8)
MODEL = SimpleNamespace(family=Raw(), spec=ModelSpec(family="raw"), size=(8, 8))


class Drifting:
    """A session whose output is off by as much as its thresholds are loose."""

    def __init__(self, error: float) -> None:
        self.error, self.factor = error, 1.0

    def reset(self) -> None:
        pass

    def scale_thresholds(self, factors: float) -> None:
        self.factor = factors

    def push(self, frame: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(outputs=output(self.error * self.factor), compute_fraction=0.25)


def output(gap: float) -> dict[str, np.ndarray]:
    return {"y": np.tile(np.array([-1.0, 1.0], np.float32), 8) + np.float32(gap)}


def run(error: float, count: int = 400) -> tuple[dict, float]:
    """The report of so many frames with noise of 0.1, and the error at the end."""
    session = Drifting(error)
    audits = ClipAudits(session, Measure(MODEL, Budget()))
    for _ in range(count):
        if audits.frame(FRAME):
            audits.compare(output(0), output(0.1))
    return audits.report(), session.error * session.factor


def test_a_stream_within_its_budget_stays_as_it_is():
    report, _ = run(0.05, 80)
    assert report["violations"] == 0
    assert report["factor"] == 1.0
    assert report["mean_error"] == pytest.approx(0.25, rel=1e-3)
    assert report["audits"] == pytest.approx(80 * DRAWN, rel=0.5)
    assert report["compute_fraction"] == 0.25


def test_one_that_is_known_to_be_gets_more():
    report, error = run(0.05)
    assert report["bound"] < 0
    assert report["factor"] > 1
    assert error <= 0.1


def test_a_stream_above_it_comes_to_where_it_is_kept():
    report, error = run(0.3)
    assert report["violations"] > 0
    assert report["factor"] < 0.5
    assert error == pytest.approx(0.1, rel=0.1), "as far off as noise"


def test_no_frames_say_nothing():
    report, _ = run(0.05, 0)
    assert report == {
        "audits": 0, "violations": 0, "mean_error": None, "mean_allowed": None, "bound": None, "confidence": 0.95,
        "factor": 1.0, "budget": "noise", "compute_fraction": None,
    }  # fmt: skip


def test_only_drawn_frames_are_compared():
    with pytest.raises(ValueError, match="expected a frame that was drawn first"):
        ClipAudits(Drifting(0), Measure(MODEL, Budget())).compare(output(0), output(0))
