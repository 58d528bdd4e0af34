"""No ghosts: what a threshold lets stand is looked at again, and does not outlive a turn."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import REFRESH_PARTS, Session
from tests.cache.closed_loop import largest_excess
from tests.cache.onnx_models import build, node, weights

TURN = 3 * REFRESH_PARTS


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
    assert sum(r.decision == "partial" for r in results) == REFRESH_PARTS
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


def test_twenty_thousand_frames_end_no_worse_than_a_hundred(plan):
    """Ramps, flicker, noise and things that move."""
    rng, base = np.random.default_rng(4), picture(7).astype(np.int16)
    session, errors = Session(plan), {}
    for number in range(20_000):
        ramp = 20 * np.sin(number / 900)
        flicker = 2 * (number % 2)
        noisy = base + rng.integers(-2, 3, base.shape) + int(ramp) + flicker
        top, left = number // 3 % 30, number // 2 % 46
        noisy[top : top + 8, left : left + 8] += 40
        frame = np.clip(noisy, 0, 255).astype(np.uint8)
        if 90 <= number < 100 or number >= 19_990:
            errors.setdefault(number >= 1000, []).append(error(session, frame))
        else:
            session.push(frame)
    assert np.mean(errors[True]) <= 1.5 * np.mean(errors[False])
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
