"""Rates by hand, and a real plan's steps one by one."""

from __future__ import annotations

import pytest

from cache.session import Session
from service.bench.dense import example
from service.bench.nodes import NodeTime, node_rows, node_times, rows_of


def test_rates_by_hand():
    times = [NodeTime("a", "conv", (16, 4, 8), 3_000_000, 60_000.0), NodeTime("b", "add", (16, 4, 8), 0, 20_000.0)]
    first, second = rows_of(times, 200e9)
    assert first == {
        "name": "a", "op": "conv", "shape": [16, 4, 8], "ms": 0.06, "share_of_time": 0.75, "gflops": 100.0,
        "share_of_peak": 0.5,
    }  # fmt: skip
    assert (second["ms"], second["share_of_time"], second["gflops"], second["share_of_peak"]) == (
        0.02,
        0.25,
        None,
        None,
    )


def test_every_step_of_a_plan_is_timed(opened):
    plan = opened.compile()
    found = node_times(Session(plan, exact=True), example(opened), 3)
    assert [node.name for node in found] == [planned.step.name for planned in plan.steps]
    assert sum(node.macs for node in found) == plan.total_macs
    assert all(node.ns > 0 for node in found if node.op == "conv")
    assert found[0].shape == (8, 16, 24)  # 8 channels at a quarter of 96x64


def test_shares_of_the_time_make_a_whole(opened):
    rows = node_rows(Session(opened.compile(), exact=True), example(opened), 1)
    assert sum(row["share_of_time"] for row in rows) == pytest.approx(1, abs=0.01)
    assert all(row["share_of_peak"] > 0 for row in rows if row["op"] == "conv")
