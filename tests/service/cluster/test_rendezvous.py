"""Streams stay where they are unless their member goes; shares follow weights; the full are passed over."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.rendezvous import owner, preference

NAMES = st.text(st.characters(codec="utf-8"), max_size=12)
MEMBERS = st.dictionaries(NAMES, st.floats(0.01, 100), min_size=1, max_size=8)
STREAMS = [f"camera-{number}" for number in range(2000)]


@given(NAMES, MEMBERS)
def test_the_answer_depends_on_names_and_weights_alone(stream: str, members: dict[str, float]) -> None:
    order = preference(stream, members)
    assert sorted(order) == sorted(members)
    assert preference(stream, dict(reversed(members.items()))) == order
    assert owner(stream, members) == order[0]


@given(NAMES, MEMBERS, st.data())
def test_a_member_that_leaves_moves_no_stream_of_another(
    stream: str, members: dict[str, float], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(members)))
    left = {name: weight for name, weight in members.items() if name != gone}
    assert preference(stream, left) == [name for name in preference(stream, members) if name != gone]


def test_a_member_that_comes_takes_its_share_and_moves_nothing_between_others() -> None:
    before = {f"box-{number}": 1.0 for number in range(4)}
    after = {**before, "box-new": 1.0}
    moved = [stream for stream in STREAMS if owner(stream, before) != owner(stream, after)]
    assert {owner(stream, after) for stream in moved} == {"box-new"}
    assert len(moved) == pytest.approx(len(STREAMS) / 5, rel=0.2)


def test_shares_follow_weights() -> None:
    members = {"small": 1.0, "middle": 2.0, "large": 5.0}
    counts = Counter(owner(stream, members) for stream in STREAMS)
    for name, weight in members.items():
        assert counts[name] == pytest.approx(len(STREAMS) * weight / 8, rel=0.15)


def test_a_heavier_member_only_gains() -> None:
    before, after = {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 2.0, "c": 1.0}
    moved = [stream for stream in STREAMS if owner(stream, before) != owner(stream, after)]
    assert moved
    assert {owner(stream, after) for stream in moved} == {"b"}


def test_the_full_are_passed_over_and_the_others_keep_theirs() -> None:
    members = {"a": 1.0, "b": 1.0, "c": 1.0}
    for stream in STREAMS[:200]:
        first, second, _ = preference(stream, members)
        assert owner(stream, members, lambda name, full=first: name != full) == second
    assert owner("door", members, lambda name: False) is None
    assert owner("door", {}) is None


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_means_nothing_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="expected a weight above 0 for 'a'"):
        owner("door", {"a": weight})
