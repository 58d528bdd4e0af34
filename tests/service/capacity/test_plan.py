"""Plans worked out on paper, and that the server's own admission and memory cap draw the line where the plan does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured_box import MIB, make_box, model_row

from service.admission import KNOWN_ITEMS, Admission
from service.caches import Caches
from service.capacity.box import BoxError
from service.capacity.plan import Demand, Terms, admitted, plan
from service.limits import default_cache_bytes

STEADY = Demand(streams=100, fps=10.0, activity=0.1, peak=1.0, keyframe_every_s=1e9)
TERMS = Terms(headroom=0.15, spare=0)


def test_on_paper() -> None:
    """4 ms ten times a second is a 25th of a worker: 42 streams leave 15% of two workers free, 50 fill them."""
    found = plan(make_box(), "people", "640x384", STEADY, TERMS)
    assert found.stream.frame_ms == pytest.approx(4.0, abs=1e-4)
    assert found.stream.wanted == pytest.approx(0.04, abs=1e-5)
    assert found.room["admission"] == 42
    assert found.room["peaks"] == found.room["cores"] == 49  # refreshing takes a little
    assert (found.binds, found.full, found.boxes) == ("admission", 42, 3)
    assert found.utilisation == pytest.approx(100 / 3 * 0.04 / 2, rel=1e-3)


def test_one_box_with_room_for_all_passes_nobody_over() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, streams=42), TERMS)
    assert (found.full, found.boxes, found.passed_over) == (42, 1, 0.0)
    two = plan(make_box(), "people", None, replace(STEADY, streams=43), TERMS)
    assert (two.boxes, two.passed_over) == (2, pytest.approx(2 * 0.5**43 / 43 * 2, rel=1e-6))


def test_bursts_cost_what_their_two_states_cost_and_vary() -> None:
    """A third of the time 30% of the tiles change, 6 ms; else 2 ms."""
    found = plan(make_box(), "people", None, replace(STEADY, peak=3.0), TERMS).stream
    assert found.busy_ms == pytest.approx(6.0)
    assert found.frame_ms == pytest.approx(6 / 3 + 2 * 2 / 3, abs=1e-3)
    assert found.deviation == pytest.approx(10 * 4e-3 * (2 / 9) ** 0.5, rel=1e-6)


def test_a_busy_stream_never_changes_more_than_all() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, activity=0.8, peak=3.0), TERMS).stream
    assert found.busy_ms == pytest.approx(20.0)


def test_peaks_bind_where_streams_vary_much() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, fps=50.0, peak=8.0), TERMS)
    assert found.binds == "peaks"
    n, stream = found.full, found.stream
    for streams, fits in ((n, True), (n + 1, False)):
        peak = streams * stream.wanted + 2.3263 * stream.deviation * streams**0.5
        assert (peak <= 2) is fits


def test_whole_frames_refreshing_and_slowdown_are_paid_for() -> None:
    rows = [{"threads": 2, "slowdown": 1.5}]
    box = make_box(models=[model_row(scaling=rows, refresh_ms=100.0)])
    found = plan(box, "people", None, replace(STEADY, keyframe_every_s=10.0), TERMS).stream
    # of a hundred frames one is whole, and together they carry a turn of refresh of 100 ms
    assert found.frame_ms == pytest.approx(1.5 * (0.99 * 4 + 0.01 * 20 + 1.0))


def test_larger_frames_cost_their_decoding_and_their_bytes() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, picture="1280x768"), TERMS).stream
    assert found.frame_ms == pytest.approx(4 + 4, abs=1e-3)
    assert found.bits_s == 8 * 10 * 120_000


def test_tiles_cost_less() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, tiles=True), TERMS).stream
    assert found.frame_ms == pytest.approx(3.0, abs=1e-3)
    assert found.bits_s == 8 * 10 * 4_000


@pytest.mark.parametrize(
    ("fields", "terms", "binds", "full"),
    [
        ({"memory_bytes": 400 * MIB}, {}, "memory", 4),  # 256 MiB are kept free; 100 MiB of weights, 10 MiB each
        ({}, {"link_bits_s": 40e6}, "network", 10),  # 3.2 Mbit/s each of 32
        ({"models": [model_row(outside_ms=4.0)]}, {}, "cores", 24),
    ],
)
def test_other_bounds(fields: dict, terms: dict, binds: str, full: int) -> None:
    found = plan(make_box(**fields), "people", None, STEADY, replace(TERMS, **terms))
    assert (found.binds, found.full) == (binds, full)


def test_spare_boxes_come_on_top() -> None:
    found = plan(make_box(), "people", None, STEADY, replace(TERMS, spare=2))
    assert found.boxes == 3 + 2
    assert found.recovery_s == pytest.approx(42 * 0.02 / 4 / (2 - 25 * 0.04), rel=0.01)
    assert found.as_dict()["max_streams"] == 42


def test_one_box_alone_has_nobody_to_take_over() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, streams=10), TERMS)
    assert found.boxes == 1
    assert found.as_dict()["recovery_s"] is None


def test_a_box_that_is_too_small_for_one_stream_is_said() -> None:
    with pytest.raises(BoxError, match=r"no room for one such stream \(memory\): it wants 0.04 of 2 workers, 10 MiB"):
        plan(make_box(memory_bytes=150 * MIB), "people", None, STEADY, TERMS)


@dataclass
class Usage:
    mean_s: float
    items: int = KNOWN_ITEMS


@dataclass
class Wanting:
    fps: float

    def wanted_fps(self, now: float) -> float:
        return self.fps

    since: float = -1e9


@dataclass
class Guest:
    """A stream as admission sees it."""

    lane: Usage
    demand: Wanting
    model: str = "people"
    attachment: object = field(default_factory=object)


@given(
    workers=st.integers(1, 16), headroom=st.floats(0, 0.9), fps=st.floats(0.1, 60), frame_s=st.floats(1e-3, 0.5)
)  # fmt: skip
def test_admission_refuses_exactly_what_the_plan_has_no_room_for(
    workers: int, headroom: float, fps: float, frame_s: float
) -> None:
    wanted = min(1.0, fps * frame_s)
    full = admitted(workers, headroom, wanted)
    if full > 400:  # a list of guests that is as long takes long
        return
    most = workers * (1 - headroom) / wanted
    admission = Admission(workers, headroom)
    guests: list[Guest] = []
    while admission.refuse("people", fps, guests, 0.0) is None and len(guests) <= full + 1:
        guests.append(Guest(Usage(frame_s), Wanting(fps)))
    if abs(most - round(most)) > 1e-6:  # else sums of floats decide
        assert len(guests) == full
    else:
        assert abs(len(guests) - full) <= 1


def test_admission_agrees_with_a_whole_plan() -> None:
    found = plan(make_box(), "people", None, replace(STEADY, peak=2.0), TERMS)
    admission, guests = Admission(2, 0.15), []
    while admission.refuse("people", 10.0, guests, 0.0) is None:
        guests.append(Guest(Usage(found.stream.frame_ms / 1e3), Wanting(10.0)))
    assert len(guests) == found.room["admission"]


class Session:
    nbytes = 10 * MIB

    def evict(self) -> None:
        raise AssertionError("nothing is to be freed")


def test_the_cap_on_memory_is_the_server_s() -> None:
    box = make_box(memory_bytes=400 * MIB)
    caches = Caches(default_cache_bytes(400 * MIB), fixed=lambda: 100 * MIB, clock=lambda: 0.0)
    kept = []
    while caches.refuse(Session.nbytes, quiet_s=60.0) is None:
        kept.append(Session())
        with caches.hold(kept[-1]):
            pass
    assert len(kept) == plan(box, "people", None, STEADY, TERMS).room["memory"]
