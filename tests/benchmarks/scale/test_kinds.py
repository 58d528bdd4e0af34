"""Cameras are drawn as their kinds say, and their frames cost what the plan has them cost."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from measured_box import make_box

from benchmarks.scale.kinds import DAY_S, KINDS, cameras, costs
from service.capacity.plan import Demand, per_stream


@pytest.fixture(scope="module")
def drawn():
    return cameras(4000, np.random.default_rng(3))


def test_kinds_make_up_their_shares(drawn) -> None:
    found = np.bincount(drawn.kind, minlength=len(KINDS)) / drawn.count
    assert found == pytest.approx([kind.share for kind in KINDS], abs=0.03)
    assert sum(kind.share for kind in KINDS) == pytest.approx(1)


def test_shops_open_and_close_and_others_stay(drawn) -> None:
    shop = np.array([kind.opens is not None for kind in KINDS])[drawn.kind]
    assert not drawn.is_on(3 * 3600)[shop].any()
    assert drawn.is_on(12 * 3600).all()
    assert drawn.is_on(DAY_S - 1)[~shop].all()
    assert not drawn.is_on(DAY_S - 1)[shop].any()


def test_a_kind_is_busy_as_its_hours_say(drawn) -> None:
    night = np.flatnonzero(np.array([kind.name == "night" for kind in KINDS])[drawn.kind])
    assert drawn.busy_share(0.0)[night].mean() == pytest.approx(0.5, rel=0.1)
    assert drawn.busy_share(12 * 3600)[night].mean() == pytest.approx(0.15, rel=0.1)
    assert ((drawn.busy_share(0.0) > 0) & (drawn.busy_share(0.0) < 1)).all()


def test_mean_and_peak_are_those_of_the_two_states(drawn) -> None:
    at = drawn.busiest_s()
    mean, peak, count = drawn.activity_at(at)
    busy = np.random.default_rng(1).random((400, drawn.count)) < drawn.busy_share(at)
    seen = busy * drawn.activity
    assert count == drawn.count
    assert mean == pytest.approx(seen.mean(), rel=0.02)
    assert peak == pytest.approx((seen**2).mean() / seen.mean() ** 2, rel=0.02)
    assert mean >= max(drawn.activity_at(hour * 3600)[0] for hour in range(9, 21)) - 1e-9


def test_frames_cost_what_the_plan_says() -> None:
    box, demand = make_box(), Demand(10, 5.0, 0.1, 2.0)
    (cost,) = box.models
    found = costs(box, cost, demand, np.array([0.0, 0.1, 0.3, 1.0]))
    alone = [per_stream(box, cost, replace(demand, activity=share, peak=1.0)) for share in (0.0, 0.1, 0.3, 1.0)]
    assert found.busy_s == pytest.approx([each.frame_ms / 1e3 for each in alone])
    assert found.still_s == pytest.approx(alone[0].frame_ms / 1e3)
    assert found.whole_s == pytest.approx(0.02)
