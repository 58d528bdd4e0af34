"""What streams want of the workers, and when one more is too many. Simulated time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from service.admission import KNOWN_ITEMS, SETTLE_S, Admission, Demand, Rate


@dataclass
class Usage:
    mean_s: float
    items: int = KNOWN_ITEMS


@dataclass
class FakeStream:
    lane: Usage | None
    demand: Demand
    model: str | None = "people"
    attachment: object | None = field(default_factory=object)


def sending(fps: float, promised_fps: float, seconds: int = 60) -> Demand:
    """Of a stream that sends at a rate since time 0."""
    demand = Demand(promised_fps, since=0.0)
    for number in range(round(seconds * fps)):
        demand.offered.add(number / fps)
    return demand


def stream(fps: float, promised_fps: float, cost_s: float, **fields) -> FakeStream:
    return FakeStream(Usage(cost_s), sending(fps, promised_fps), **fields)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.per_s(0) == 0
    for number in range(600):
        rate.add(number / 10)
    assert rate.per_s(60) == pytest.approx(10, rel=0.02)
    assert rate.per_s(65) == pytest.approx(10 / 2.718, rel=0.02)
    assert rate.per_s(120) < 0.001


@pytest.mark.parametrize(
    ("fps", "promised_fps", "wanted"),
    [(15, 20, 15), (60, 5, 5), (1, 5, 1)],
    ids=["what it sends", "a client that sends whenever it may", "a slow one"],
)
def test_wanted_is_what_is_sent_and_promised(fps: float, promised_fps: float, wanted: float) -> None:
    assert sending(fps, promised_fps).wanted_fps(60.0) == pytest.approx(wanted, rel=0.1)


def test_a_new_stream_counts_with_what_it_is_promised() -> None:
    demand = Demand(15.0, since=100.0)
    assert demand.wanted_fps(100.0 + SETTLE_S - 0.1) == 15
    assert demand.wanted_fps(100.0 + SETTLE_S) == 0


def test_load_is_rate_times_cost_of_connected_streams() -> None:
    admission = Admission(2, 0.0)
    streams = [stream(10, 30, 0.02), stream(30, 5, 0.1), stream(10, 30, 0.02, attachment=None)]
    assert admission.load(streams, 60.0) == pytest.approx(0.2 + 0.5, rel=0.05)


def test_a_stream_wants_one_worker_at_most() -> None:
    assert Admission(2, 0.0).load([stream(30, 30, 0.5)], 60.0) == 1


def test_one_too_many_is_told_with_figures() -> None:
    admission = Admission(2, 0.1)
    streams = [stream(20, 20, 0.02) for _ in range(4)]  # 1.6 of 1.8
    assert admission.refuse("people", 9, streams, 60.0) is None
    reason = admission.refuse("people", 20, streams, 60.0)
    assert reason is not None
    assert "at most 1.80 of 2 workers" in reason
    assert "got 1.59 and 0.40 more for 20 frames a second of people" in reason


def test_elastic_clients_leave_room_for_others() -> None:
    """Ten clients that send as fast as they get credits keep the workers busy, and want 5 frames a second each."""
    admission = Admission(2, 0.15)
    streams = [stream(20, 5, 0.01) for _ in range(10)]
    assert admission.load(streams, 60.0) == pytest.approx(0.5, rel=0.05)
    assert admission.refuse("people", 15, streams, 60.0) is None


def test_nothing_known_or_nobody_there_is_no_reason() -> None:
    admission = Admission(1, 0.15)
    assert admission.refuse("people", 1000, [], 0.0) is None
    assert admission.refuse("other", 1000, [stream(20, 20, 0.04)], 60.0) is None, "of another model nothing is known"
    admission.load([stream(10, 30, 0.5)], 60.0)
    assert admission.refuse("people", 1000, [], 60.0) is None, "alone it slows nobody down"


def test_a_first_frame_is_not_what_a_stream_costs() -> None:
    admission = Admission(1, 0.15)
    known = stream(5, 5, 0.01)
    fresh = FakeStream(Usage(0.5, items=1), sending(5, 5))
    assert admission.load([known, fresh], 60.0) == pytest.approx(0.1, rel=0.05)
    assert admission.costs_s == {"people": 0.01}


def test_a_burst_of_connections_counts_at_once() -> None:
    admission = Admission(1, 0.15)
    streams = [stream(10, 10, 0.02)]
    taken = 0
    while admission.refuse("people", 10, streams, 60.0) is None:
        streams.append(FakeStream(None, Demand(10, since=60.0)))
        taken += 1
    assert taken == 3, "0.2 of 0.85 for each"


def test_costs_of_models_that_are_gone_are_forgotten() -> None:
    admission = Admission(1, 0.15)
    admission.load([stream(5, 5, 0.01, model="a"), stream(5, 5, 0.02, model="b")], 60.0)
    admission.forget(["b"])
    assert set(admission.costs_s) == {"b"}


def test_images_wait_while_streams_want_everything() -> None:
    admission = Admission(1, 0.15)
    assert admission.refuse_image([stream(20, 20, 0.045)], 60.0) is None, "the headroom is theirs"
    reason = admission.refuse_image([stream(20, 20, 0.03) for _ in range(2)], 60.0)
    assert reason is not None
    assert "1.19 of 1 workers" in reason
