"""What happens to boxes is drawn as assumed, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from benchmarks.scale.kinds import DAY_S
from benchmarks.scale.trouble import Trouble, incidents, updates
from service.capacity.box import Start

START = Start(warm_s=3.0, cold_s=90.0)


def drawn(trouble: Trouble, boxes: int = 500, seed: int = 1):
    return incidents(trouble, boxes, START, DAY_S, np.random.default_rng(seed))


def test_failures_come_as_often_as_assumed() -> None:
    trouble = Trouble(rack_at_s=None)
    counts = [len(drawn(trouble, seed=seed)) for seed in range(60)]
    assert abs(np.mean(counts) - 500 / 30) < 2
    assert drawn(trouble) == drawn(trouble)


def test_a_rack_goes_as_one() -> None:
    (rack,) = [each for each in drawn(Trouble()) if each.what == "rack"]
    assert rack.at_s == 18 * 3600
    assert rack.boxes == tuple(range(rack.boxes[0], rack.boxes[0] + 20))
    assert rack.away_s == 900 + 3


def test_repairs_wait_for_a_start_warm_or_cold() -> None:
    trouble = Trouble(mtbf_s=DAY_S, rack_at_s=None)
    away = {round(each.away_s) for each in drawn(trouble)}
    assert away == {1 + 3, 90 + 3, 600 + 90}
    unknown = incidents(trouble, 500, Start(warm_s=3.0), DAY_S, np.random.default_rng(1))
    assert {round(each.away_s) for each in unknown} == {4, 93, 603}


def test_an_update_takes_every_box_once_and_one_group_at_a_time() -> None:
    trouble = Trouble()
    found = updates(trouble, 45, START)
    assert [box for each in found for box in each.boxes] == list(range(45))
    assert all(each.told for each in found)
    assert all(later.at_s >= each.at_s + each.away_s for each, later in pairwise(found))
    assert updates(replace(trouble, update_at_s=None), 45, START) == []
