"""Rates of a connection: at most, and while nothing changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.pacing import Pace, slower

MS = 1_000_000


def looked_at(pace: Pace, every_ms: int, until_ms: int, change_ms: tuple[int, int] = (0, 0)) -> list[int]:
    """Times, in ms, of the frames that are looked at; all are of 1000 bytes, and differ in [change_ms[0], [1])."""
    seen = []
    for at in range(0, until_ms, every_ms):
        if not pace.skips(at * MS, 1000):
            seen.append(at)
            pace.found(at * MS, change_ms[0] <= at < change_ms[1])
    return seen


def test_without_rates_everything_is_looked_at() -> None:
    assert looked_at(Pace(), 10, 1000) == list(range(0, 1000, 10))


@given(st.lists(st.integers(-24, 24), min_size=1, max_size=100))
def test_a_camera_of_just_max_fps_loses_no_frame_by_its_jitter(jitter_ms: list[int]) -> None:
    pace = Pace(max_fps=10)
    times = [1000 + 100 * number + late for number, late in enumerate(jitter_ms)]
    assert not any(pace.skips(at * MS, 1000) for at in times)


@pytest.mark.parametrize(("every_ms", "seen"), [(10, 101), (66, 101), (95, 98), (100, 100), (150, 67)])
def test_max_fps_holds_on_average(every_ms: int, seen: int) -> None:
    assert abs(len(looked_at(Pace(max_fps=10), every_ms, 10_000)) - seen) <= 1


def test_a_frame_that_comes_much_too_soon_is_not_looked_at() -> None:
    pace = Pace(max_fps=10)
    assert not pace.skips(0, 1000)
    assert pace.skips(49 * MS, 1000)
    assert not pace.skips(51 * MS, 1000)
    assert pace.skips(120 * MS, 1000), "the next one is due no earlier for it"
    assert not pace.skips(151 * MS, 1000)


def test_the_first_frame_is_looked_at_whenever_the_clock_began() -> None:
    assert not Pace(max_fps=0.001).skips(5, 1000)


def test_an_idle_stream_is_looked_at_seldom_and_change_ends_it_at_once() -> None:
    seen = looked_at(Pace(idle_fps=1, idle_after_s=2), 100, 20_000, (10_000, 12_000))
    assert [at for at in seen if at < 2000] == list(range(0, 2000, 100)), "until it counts as idle"
    quiet = [at for at in seen if 2000 <= at < 10_000]
    assert quiet == list(range(2900, 10_000, 1000)), "one a second"
    noticed = min(at for at in seen if at >= 10_000)
    assert noticed < 11_000
    assert [at for at in seen if noticed <= at < 14_000] == list(range(noticed, 14_000, 100)), "full rate, for 2 s more"
    assert len([at for at in seen if at >= 15_000]) <= 6


def test_a_frame_of_another_size_is_looked_at() -> None:
    pace = Pace(idle_fps=0.1, idle_after_s=0)
    assert not pace.skips(0, 1000)
    pace.found(0, False)
    assert pace.idle(MS)
    assert pace.skips(1 * MS, 1019)
    assert not pace.skips(2 * MS, 1021)
    assert pace.skips(3 * MS, 1021), "it is the new measure"
    assert not pace.skips(4 * MS, 980)
    assert not pace.skips(5 * MS, 980, wanted=True)


def test_a_wanted_frame_still_keeps_to_max_fps() -> None:
    pace = Pace(max_fps=1)
    assert not pace.skips(0, 1000)
    assert pace.skips(1, 1000, wanted=True)


@given(st.floats(0.5, 50), st.floats(0.1, 40), st.integers(5, 100))
def test_never_more_than_max_fps_and_never_longer_than_the_idle_interval(
    max_fps: float, idle_fps: float, every_ms: int
) -> None:
    seen = looked_at(Pace(max_fps, idle_fps, 1.0), every_ms, 10_000)
    gaps = [later - earlier for earlier, later in pairwise(seen)]
    assert all(gap >= 499 / max_fps for gap in gaps)
    assert len(seen) <= 10 * max_fps + 2
    assert all(gap <= max(1000 / max_fps, 1000 / idle_fps) + every_ms for gap in gaps)


@pytest.mark.parametrize(
    ("rates", "expected"), [((None, None), None), ((5, None), 5), ((None, 3), 3), ((5, 3), 3), ((), None)]
)
def test_the_slower_of_two_rates(rates: tuple, expected: float | None) -> None:
    assert slower(*rates) == expected
