"""Placement is rendezvous hashing to the last stream, and what is lost, joins and fills up keeps every invariant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale.places import HEARD_S, Places, WrongPlace, preferences
from service.cluster.rendezvous import preference

STREAMS = [f"camera-{number}" for number in range(60)]


def places(boxes: int = 6, most: int | None = None, cost_s: float = 0.001, streams: int = 60) -> Places:
    order = preferences(STREAMS[:streams], [f"box-{number}" for number in range(boxes)])
    return Places(order, 2, 0.15, 10.0, np.full(streams, cost_s), most)


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=9, unique=True))
def test_preferences_are_rendezvous_hashing(names: list[str]) -> None:
    found = preferences(STREAMS[:12], names)
    for stream, row in zip(STREAMS[:12], found, strict=True):
        assert [names[box] for box in row] == preference(stream, dict.fromkeys(names, 1.0))


def test_streams_go_where_they_belong() -> None:
    found = places()
    for stream in range(60):
        assert found.place(stream, 0.0) == (found.order[stream][0], False)
    found.check()


def test_full_boxes_are_passed_over_and_all_are_placed() -> None:
    found = places(most=10)
    passed = [found.place(stream, 0.0)[1] for stream in range(60)]
    assert np.bincount(found.at).tolist() == [10] * 6
    assert any(passed)
    found.check()


def test_nobody_is_placed_where_all_are_full() -> None:
    found = places(boxes=2, most=5)
    assert [found.place(stream, 0.0)[0] >= 0 for stream in range(12)] == [True] * 10 + [False] * 2
    found.leave(3)
    assert found.place(11, 0.0)[0] >= 0


def test_admission_bounds_a_box_by_what_frames_cost() -> None:
    """40 ms ten times a second is 0.4 of a worker: four streams leave 15% of two free."""
    found = places(boxes=1, cost_s=0.04)
    assert sum(found.place(stream, 0.0)[0] >= 0 for stream in range(20)) == 4
    assert not found.has_room(0, HEARD_S / 2)
    found.mean_s[:] = 0.01
    assert not found.has_room(0, HEARD_S / 2), "the others have not heard yet"
    assert found.has_room(0, 2 * HEARD_S)


def test_a_lost_box_moves_its_own_streams_and_they_come_back() -> None:
    found = places()
    for stream in range(60):
        found.place(stream, 0.0)
    before = found.at.copy()
    lost = found.lose(2)
    assert lost == np.flatnonzero(before == 2).tolist()
    for stream in lost:
        assert found.place(stream, 1.0)[0] not in (-1, 2)
    assert (found.at[before != 2] == before[before != 2]).all()
    found.check()
    assert sorted(found.join(2)) == lost


def test_wrong_places_are_noticed() -> None:
    found = places()
    found.place(0, 0.0)
    with pytest.raises(WrongPlace, match="already"):
        found.place(0, 0.0)
    found.alive[found.at[0]] = False
    with pytest.raises(WrongPlace, match="a box that is gone"):
        found.check()
    found = places()
    found.at[5] = 1
    with pytest.raises(WrongPlace, match="none that knows it"):
        found.check()
