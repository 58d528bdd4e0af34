"""Turns, order and figures, by hand."""

from __future__ import annotations

import pytest

from service.bench import rounds


def test_every_turn_comes_in_each_round_and_the_order_moves_on():
    called = []
    turns = {name: (lambda name=name: called.append(name)) for name in "abc"}
    settled = []
    times = rounds.interleaved(turns, 2, settle=lambda: settled.append(len(called)), calls=2)
    assert "".join(called) == "aaabbbccc" + "bbbcccaaa"
    assert {name: len(found) for name, found in times.items()} == {"a": 4, "b": 4, "c": 4}
    assert settled == [0, 3, 6, 9, 12, 15]


def test_only_what_comes_after_the_first_call_of_a_turn_is_timed(monkeypatch):
    clock = iter(range(0, 10**9, 1_000_000))  # every look is a millisecond after the last
    monkeypatch.setattr(rounds.time, "perf_counter_ns", lambda: next(clock))
    assert rounds.interleaved({"a": lambda: None}, 1, calls=3) == {"a": [1.0, 1.0, 1.0]}


def test_spread_by_hand():
    found = rounds.spread([float(v) for v in range(11)])
    assert found == {"ms": 5.0, "p10_ms": 1.0, "p90_ms": 9.0, "min_ms": 0.0}


def test_the_geometric_mean_leaves_out_what_is_not_there():
    assert rounds.geometric_mean([2.0, None, 8.0]) == pytest.approx(4.0)
    assert rounds.geometric_mean([None]) is None


def test_prefixed():
    assert rounds.prefixed("ours", {"ms": 1, "p10_ms": 2}) == {"ours_ms": 1, "ours_p10_ms": 2}
