"""No ghosts: what a threshold lets stand is looked at again, and does not outlive a turn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.refresh import PARTS, Turn
from cache.session import Session
from tests.cache.closed_loop import largest_excess
from tests.cache.onnx_models import build, node, weights

TURN = 3 * PARTS


def plan_of(refresh_frames: int = TURN) -> Plan:
    """Three convolutions of falling size and a residual sum."""
    constants = {"w0": weights(16, 3, 3, 3) / 64, "w1": weights(24, 16, 3, 3) / 8, "w2": weights(24, 24, 3, 3) / 8}
    nodes = [
        node("Conv", "x w0", "a", pads=[1] * 4), node("Relu", "a", "b"),
        node("Conv", "b w1", "c", pads=[1] * 4, strides=[2, 2]), node("Conv", "c w2", "d", pads=[1] * 4),
        node("Relu", "d", "e"), node("Add", "c e", "f"), node("GlobalAveragePool", "f", "g"), node("Add", "f g", "y"),
    ]  # fmt: skip
    data = build(nodes, constants, shape=(1, 3, 40, 56))
    return Plan.compile(load_model(data), policy=Policy(refresh_frames=refresh_frames))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of()


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 200, (40, 56, 3), dtype=np.uint8)


def error(session: Session, frame: np.ndarray) -> float:
    """Root mean square of the output's error, from a full recompute."""
    found = session.push(frame).outputs["y"]
    whole = Session(session.plan, exact=True).push(frame).outputs["y"]
    return float(np.sqrt(np.mean(np.square(found - whole))))


def test_what_stays_below_the_threshold_is_gone_after_a_turn(plan):
    session, frame = Session(plan), picture()
    session.push(frame)
    faint = frame + np.uint8(2)  # every tile by as much as a tile may differ
    assert session.push(faint).decision == "reuse"
    before = error(session, faint)
    assert before > 0
    results = [session.push(faint) for _ in range(TURN)]
    assert {r.reason for r in results} == {"nothing changed", "refresh"}
    assert sum(r.decision == "partial" for r in results) == PARTS
    assert np.array_equal(session._opening.reference, faint), "the whole picture was taken in"
    assert error(session, faint) < before / 2, "what is left is below three tenths of a threshold"
    assert largest_excess(session) < 1e-4


def test_without_it_the_error_stays():
    session, frame = Session(plan_of(refresh_frames=0)), picture()
    session.push(frame)
    before = error(session, frame + np.uint8(2))
    for _ in range(TURN):
        assert session.push(frame + np.uint8(2)).decision == "reuse"
    assert error(session, frame + np.uint8(2)) == before


def parts_of(turn: Turn, times: list[float | None]) -> list[tuple[int, int]]:
    """Which parts frames of those times do, as first and end in fiftieths."""
    found = [turn.next(at) for at in times]
    return [(part * PARTS // parts, (part + 1) * PARTS // parts) for part, parts in found if parts]


@pytest.mark.parametrize("fps", [0.05, 0.3, 1, 4.3, 5, 7.9, 25, 60, 240])
def test_a_turn_takes_its_seconds_at_any_rate(fps):
    """All of it once in ten seconds, or with each frame, in order, without a gap; and not more often."""
    turn, times = Turn(250, 10.0), [number / fps for number in range(int(60 * fps) + 20)]
    done = parts_of(turn, times)
    assert all(first == end % PARTS for (_, end), (first, _) in pairwise(done))
    expected = min(times[-1] / 10, len(times) - 1)
    whole = sum(end - first for first, end in done) / PARTS
    assert expected - 0.5 <= whole <= expected + 0.001


@pytest.mark.parametrize("frames", [1, 50, 51, 250])
def test_frames_without_times_take_a_turn_of_frames(frames):
    turn = Turn(frames, 10.0)
    done = parts_of(turn, [None] * 300)
    assert [first for first, _ in done[:3]] == [0, 1, 2]
    assert len(done) == 300 // -(-frames // PARTS)


def test_a_pause_is_no_more_than_one_turn_and_a_clock_that_goes_back_is_none():
    turn = Turn(250, 10.0)
    assert parts_of(turn, [1000.0, 5000.0, 5000.0, 5000.1]) == [(0, PARTS)]
    assert parts_of(turn, [10.0, 9.0, 10.0]) == [(0, 5)]
    turn.forget()
    assert parts_of(turn, [1e9]) == []
    assert parts_of(Turn(0, 10.0), [0.0, 100.0]) == []
    assert parts_of(Turn(PARTS, 0.0), [0.0, 0.0]) == [(0, 1), (1, 2)]


def test_a_slow_stream_is_fresh_after_ten_seconds(plan):
    """Two frames a second: twenty of them, not two hundred and fifty."""
    session, frame = Session(plan), picture()
    session.push(frame, 0.0)
    faint = frame + np.uint8(2)
    fractions = [session.push(frame, number / 2).compute_fraction for number in range(1, 21)]
    assert 0.9 < sum(fractions) < 1.001, "all but a part or two, that wait for the next frame"
    for number in range(21, 43):
        session.push(faint, number / 2)
    assert np.array_equal(session._opening.reference, faint)
    assert largest_excess(session) < 1e-4


def test_what_it_costs_when_nothing_changes(plan):
    session, frame = Session(plan), picture()
    session.push(frame)
    fractions = [session.push(frame).compute_fraction for _ in range(3 * TURN)]
    assert sum(fractions) / 3 == pytest.approx(1.0, rel=0.02), "every pixel once a turn, and nothing else"


def test_exact_sessions_and_tensors_need_none(plan):
    exact, frame = Session(plan, exact=True), picture()
    assert exact.push(frame).decision == "keyframe"
    assert {exact.push(frame).decision for _ in range(TURN)} == {"reuse"}
    budget = Session(plan)
    tensor = np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32))
    budget.push_tensor(tensor)
    assert {budget.push_tensor(tensor).decision for _ in range(5)} == {"reuse"}


def test_a_wrong_turn_is_refused():
    with pytest.raises(ValueError, match="expected refresh_frames of 0 or more, got -1"):
        Policy(refresh_frames=-1)
    with pytest.raises(ValueError, match="expected refresh_s of 0 seconds or more, got nan"):
        Policy(refresh_s=float("nan"))


def test_five_thousand_frames_end_no_worse_than_they_began(plan):
    """Ramps, flicker, noise and things that move: the errors of the last thousand frames are those of the first."""
    rng, base = np.random.default_rng(4), picture(7).astype(np.int16)
    session, errors = Session(plan), []
    for number in range(5000):
        ramp = 20 * np.sin(number / 900)
        flicker = 2 * (number % 2)
        noisy = base + rng.integers(-2, 3, base.shape) + int(ramp) + flicker
        top, left = number // 3 % 30, number // 2 % 46
        noisy[top : top + 8, left : left + 8] += 40
        frame = np.clip(noisy, 0, 255).astype(np.uint8)
        if number % 25 == 24:
            errors.append(error(session, frame))
        else:
            session.push(frame)
    assert np.mean(errors[-40:]) <= 1.1 * np.mean(errors[:40])
    assert largest_excess(session) < 1e-4


def test_streams_of_one_thread_do_not_see_each_others_pictures(plan):
    """The image lies in the thread's work space: what a turn looks at again must be this stream's own."""
    assert plan.maps[0].outside
    streams, pictures = [Session(plan), Session(plan)], [picture(1), picture(2)]
    for stream, shown in zip(streams, pictures, strict=True):
        stream.push(shown)
    before = [stream.push(shown).outputs["y"].copy() for stream, shown in zip(streams, pictures, strict=True)]
    for _ in range(TURN + 3):
        for stream, shown, expected in zip(streams, pictures, before, strict=True):
            found = stream.push(shown).outputs["y"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert max(map(largest_excess, streams)) < 1e-4
