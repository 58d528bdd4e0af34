"""DeepMon's rule: what is compared with what, what is cached, and what an open loop never sees."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cache.plan import Plan
from cache.session import Session
from service.bench.deepmon import BlockChange, DeepMon, Rule, cached_steps, distances, histograms, policy_of
from service.evaluate import relative_error
from service.opened import open_model

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from own_model import SIZE, write_model


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Seven convolutions: one at stride 4, then three at 8, 16 and 32, each with a head of its own."""
    opened = open_model(write_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))
    return Plan.compile(
        opened.model, (1, 3, SIZE[1], SIZE[0]), opened.outputs, opened.spec.normalisation(), policy_of(opened.policy)
    )


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def dense(plan, frame):
    return {name: value.copy() for name, value in Session(plan, exact=True).push(frame).outputs.items()}


def test_histograms_by_hand():
    frame = np.zeros((18, 20, 3), np.uint8)
    frame[0, 0] = 255, 100, 0
    out = np.full((2, 2, 3, 2), 9, np.float32)
    histograms(frame, 16, 7, out)
    assert out[0, 0].tolist() == [[255, 1], [256, 0], [256, 0]]
    assert out[1, 1].tolist() == [[8, 0]] * 3
    assert out.sum() == frame.size


def test_distances_by_hand():
    """0 for the same, 1 for no bin in common; the worst channel counts."""
    one = np.array([[[[4, 0], [4, 0]], [[4, 0], [4, 0]]]], np.float32)
    other = np.array([[[[4, 0], [4, 0]], [[4, 0], [0, 4]]]], np.float32)
    assert distances(one, other).tolist() == [[0, 1]]
    half = np.array([[[[4, 0], [4, 0]], [[2, 2], [4, 0]]]], np.float32)
    assert distances(one, half)[0, 1] == pytest.approx(((2**2) / 6 + 2**2 / 2) / 8)


def test_blocks_are_compared_with_the_frame_before():
    change = BlockChange(Rule(), (64, 96, 3))
    frame = noise()
    assert change.compare(frame).all()
    assert not change.compare(frame).any()
    other = frame.copy()
    other[40:50, 70:80] = 0
    assert np.argwhere(change.compare(other)).tolist() == [[1, 2]]
    assert not change.compare(other).any()
    assert np.argwhere(change.compare(frame)).tolist() == [[1, 2]]
    change.forget()
    assert change.compare(frame).all()


def test_what_moves_within_a_block_is_not_seen():
    change = BlockChange(Rule(), (64, 96, 3))
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[4:12, 4:12] = 200
    change.compare(frame)
    assert not change.compare(np.roll(frame, 8, axis=1)).any()


def test_a_share_of_the_convolutions_is_cached(plan):
    assert [planned.step.op for planned in plan.steps] == ["conv"] * 7
    assert [cached_steps(plan, share) for share in (0, 0.1, 0.5, 1)] == [0, 1, 4, 7]


@pytest.mark.parametrize("layers", [0.0, 0.5, 1.0])
def test_a_change_that_is_seen_gives_the_dense_answer(plan, layers):
    stream, frame = DeepMon(plan, Rule(layers=layers)), noise()
    first = stream.push(frame)
    assert (first.decision, first.compute_fraction) == ("keyframe", 1.0)
    frame = frame.copy()
    frame[:32, :32] = 10
    Session(plan, exact=True).push(noise(7))  # another stream of the thread leaves its own image in the work space
    found = stream.push(frame)
    assert np.argwhere(stream.changed).tolist() == [[0, 0]]
    assert relative_error(found.outputs, dense(plan, frame)) < 1e-4
    later = sum(p.step.macs for p in plan.steps[cached_steps(plan, layers) :]) / plan.total_macs
    assert later <= found.compute_fraction <= 1
    assert (found.compute_fraction == 1) == (layers == 0)
    assert stream.push(frame).decision == "reuse"


def test_two_threads_give_the_same_bits(plan):
    one, two = DeepMon(plan), DeepMon(plan, threads=2)
    for frame in (noise(), np.where(np.arange(96)[None, :, None] < 30, 0, noise()).astype(np.uint8)):
        a, b = one.push(frame), two.push(frame)
        assert all((a.outputs[name] == b.outputs[name]).all() for name in a.outputs)


def test_a_slow_change_creeps_past_until_all_is_renewed(plan):
    """Each step is below the threshold: the open loop answers as at first, for ever."""
    base = np.full((SIZE[1], SIZE[0], 3), 100, np.uint8)
    base[:, ::2] = 104
    frames = [base]
    for number in range(1, 12):  # from frame to frame, few pixels pass from one bin to the next
        frame = frames[-1].copy()
        frame[number % 8 :: 8, (5 * number) % 16 :: 16] += 60
        frames.append(frame)
    rule = Rule(distance=0.05)
    open_loop, renewed = DeepMon(plan, rule), DeepMon(plan, Rule(distance=0.05, renew_frames=11))
    for frame in frames:
        stale, fresh = open_loop.push(frame), renewed.push(frame)
    truth = dense(plan, frames[-1])
    assert stale.decision == "reuse"
    assert relative_error(stale.outputs, truth) > 1e-2
    assert relative_error(fresh.outputs, truth) < 1e-4


def test_memory_counts_picture_and_histograms(plan):
    stream = DeepMon(plan)
    assert stream.nbytes == stream.session.nbytes + 64 * 96 * 3 + 2 * 2 * 3 * 3 * 16 * 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"block_px": 24}, "multiple of 16 px, got 24"), ({"bins": 12}, "power of two of bins"),
        ({"distance": 2.0}, "distance of 0 to 1"), ({"layers": -0.1}, "share of the convolutions"),
        ({"renew_frames": -1}, "0 frames or more"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(fields, said):
    with pytest.raises(ValueError, match=said):
        Rule(**fields)
