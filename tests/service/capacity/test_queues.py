"""Formulas against what is known of them, and against queues that are lived through."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest

from service.capacity.queues import erlang_c, mean_wait_s, passed_over, quantile


def test_one_server_waits_as_often_as_it_is_busy() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(3, 3.0) == 1.0
    assert erlang_c(4, 0.0) == 0.0


@pytest.mark.parametrize(("servers", "load"), [(1, 0.8), (2, 1.5), (8, 7.0)])
def test_waits_are_those_of_a_queue_at_random(servers: int, load: float) -> None:
    """Exponential times of service: the formula is exact."""
    rng = np.random.default_rng(1)
    count = 200_000
    arrivals, services = np.cumsum(rng.exponential(1 / load, count)), rng.exponential(1.0, count)
    free = [0.0] * servers
    waited = 0.0
    for at, service in zip(arrivals.tolist(), services.tolist(), strict=True):
        begin = max(at, heapq.heappop(free))
        waited += begin - at
        heapq.heappush(free, begin + service)
    assert mean_wait_s(servers, load, 1.0, 1.0) == pytest.approx(waited / count, rel=0.1)


def test_steady_services_halve_the_wait_and_a_full_box_waits_for_ever() -> None:
    assert mean_wait_s(2, 1.5, 0.01, 0.0) == pytest.approx(mean_wait_s(2, 1.5, 0.01, 1.0) / 2)
    assert math.isinf(mean_wait_s(2, 2.0, 0.01, 1.0))


@pytest.mark.parametrize(
    ("streams", "boxes", "room"), [(40, 2, 21), (40, 2, 30), (500, 10, 50), (3, 6, 1), (2000, 100, 25)]
)
def test_passed_over_is_what_lies_beyond_the_room(streams: int, boxes: int, room: int) -> None:
    drawn = np.random.default_rng(2).binomial(streams, 1 / boxes, 400_000)
    found = passed_over(streams, boxes, room)
    assert found == pytest.approx(np.maximum(drawn - room, 0).mean() * boxes / streams, rel=0.1, abs=2e-4)


def test_bounds_of_passed_over() -> None:
    assert passed_over(5, 1, 5) == 0, "one box, which has room for all"
    assert passed_over(8, 1, 6) == pytest.approx(0.25)
    assert passed_over(2, 2, 1) == pytest.approx(0.25), "half of the time both belong to one box, and one has no room"
    assert passed_over(1000, 3, 0) == pytest.approx(1)
    assert passed_over(5000, 1000, 100) < 1e-12


def test_quantiles() -> None:
    assert quantile(0.5) == pytest.approx(0)
    assert quantile(0.99) == pytest.approx(2.326, abs=1e-3)
