"""Frames of several streams together: each session gives the bits that it gives alone, whatever the others meet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import stretches, together
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import FrameResult, Session
from cache.state import workspace
from cache.tail import TailError, TailRunner
from cache.together import push_together
from service.opened import open_model
from service.preprocess import fit
from service.sources import open_source
from tests.cache.random_models import ModelMaker, models
from tests.cache.test_exact import SLOW
from tests.cache.test_quantised_session import chain

DATA = Path(__file__).parents[3] / "shared" / "data"
LOOSE = Policy(levels=(Level(float("inf"), 0.1, 2),), global_epsilon=0.1, refresh_frames=100)
"""A part of the turn of refresh in every other frame."""
CALM = replace(LOOSE, refresh_frames=0)
SMALL = (48, 64, 3)


def small_network(policy: Policy = LOOSE, most: int = 3, tail: bool = False) -> Plan:
    """The image is read by the first step and by the last but two."""
    m = ModelMaker(5, 3, 48, 64)
    x = m.activate(m.conv("image", 3, 16, 3, strides=[2, 2], pads=[1] * 4), 16, "Relu")
    y = m.activate(m.conv(x, 16, 16, 3, pads=[1] * 4), 16, "Silu")
    again = m.conv("image", 3, 16, 2, strides=[2, 2])
    z = m.conv(m.node("Add", [m.node("Mul", [x, y]), again]), 16, 32, 3, strides=[2, 2], pads=[1] * 4)
    for _ in range(3):
        z = m.activate(m.conv(z, 32, 32, 3, pads=[1] * 4), 32, "Relu")
    outputs = [z, m.node("Softmax", [m.node("Flatten", [z])], axis=1)] if tail else [z]
    return replace(Plan.compile(load_model(m.finish(outputs)), policy=policy), together=most)


def scenes(rng: np.random.Generator, count: int, shape: Sequence[int]) -> list[np.ndarray]:
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def change(rng: np.random.Generator, frame: np.ndarray) -> np.ndarray:
    """The next frame of a stream: the same one, a part of it changed, or another scene."""
    kind, made = rng.random(), frame.copy()
    if kind < 0.2:
        return made
    if kind > 0.95:
        return scenes(rng, 1, frame.shape)[0]
    top, left = rng.integers(frame.shape[0]), rng.integers(frame.shape[1])
    part = made[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)]
    part[:] = np.clip(part + rng.integers(-60, 61, part.shape), 0, 255)
    return made


def assert_same(found: FrameResult | Exception, expected: FrameResult) -> None:
    assert isinstance(found, FrameResult), found
    assert (found.decision, found.reason, found.changed_tiles) == (
        expected.decision, expected.reason, expected.changed_tiles,
    )  # fmt: skip
    assert found.compute_fraction == expected.compute_fraction
    assert found.tiles.tobytes() == expected.tiles.tobytes()
    assert found.outputs.keys() == expected.outputs.keys()
    for name, value in expected.outputs.items():
        assert found.outputs[name].tobytes() == value.tobytes(), name


def compare(plan: Plan, streams: int, turns: int, seed: int, exact: bool = False) -> dict[str, int]:
    """Some of the streams push together, in any order, all of them push alone; returns how often what was decided."""
    rng = np.random.default_rng(seed)
    ours, theirs = ([Session(plan, exact and i % 2 == 0) for i in range(streams)] for _ in range(2))
    frames = scenes(rng, streams, (plan.height, plan.width, plan.channels))
    decided: dict[str, int] = {}
    for _ in range(turns):
        chosen = rng.permutation(streams)[: rng.integers(1, streams + 1)]
        for i in chosen:
            frames[i] = change(rng, frames[i])
            if rng.random() < 0.04:
                ours[i].reset()
                theirs[i].reset()
        found = push_together([ours[i] for i in chosen], [frames[i] for i in chosen])
        for i, outcome in zip(chosen, found, strict=True):
            expected = theirs[i].push(frames[i])
            assert_same(outcome, expected)
            decided[expected.decision] = decided.get(expected.decision, 0) + 1
    return decided


@given(models(max_layers=7), st.integers(0, 2**31), st.booleans(), st.integers(2, 5), st.sampled_from((1, 1 << 17)))
@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
def test_random_networks(made, seed, exact, most, nbytes):
    """Exact sessions among others, tails now and then, images in the arena and outside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "STRETCH_BYTES", nbytes)
        plan = replace(Plan.compile(load_model(made[0]), policy=LOOSE), together=most)
        compare(plan, 5, 6, seed, exact)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_many_frames(most, exact):
    decided = compare(small_network(most=most), 5, 70, most, exact)
    assert min(decided[kind] for kind in ("reuse", "partial", "keyframe")) > 5


def test_moves_of_the_whole_picture():
    """A picture that scrolls: maps move, by being copied, and without."""
    for room in (0, 64):
        plan = small_network(replace(LOOSE, motion_room_px=room), 4)
        ours, theirs = ([Session(plan) for _ in range(4)] for _ in range(2))
        strip = np.random.default_rng(2).integers(0, 256, (48, 400, 3), dtype=np.uint8)
        moved = 0
        for n in range(20):
            frames = [np.ascontiguousarray(strip[:, n * 4 * (i % 2 + 1) :][:, :64]) for i in range(4)]
            for outcome, session, frame in zip(push_together(ours, frames), theirs, frames, strict=True):
                expected = session.push(frame)
                assert_same(outcome, expected)
                moved += expected.decision == "partial" and "picture moved" in expected.reason
        assert moved > 20


def test_maps_of_float16():
    decided = compare(small_network(replace(LOOSE, cache_dtype="float16")), 5, 60, 3)
    assert decided["partial"] > 50


@given(models(max_layers=6), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
def test_random_networks_of_float16(made, seed):
    policy = replace(LOOSE, cache_dtype="float16")
    compare(replace(Plan.compile(load_model(made[0]), policy=policy), together=3), 4, 5, seed, True)


def test_maps_of_bytes():
    plan = replace(chain(), together=3)
    assert compare(plan, 4, 40, 5)["partial"] > 30


def test_tails():
    plan = small_network(tail=True)
    assert plan.tails
    assert compare(plan, 4, 40, 6)["partial"] > 30


def test_an_error_is_told_of_its_session_alone(monkeypatch: pytest.MonkeyPatch):
    """A frame of a wrong size, and a tail that fails: the others' results stand, and the sessions go on."""
    plan, rng = small_network(CALM, 4, tail=True), np.random.default_rng(7)
    ours, theirs = ([Session(plan) for _ in range(4)] for _ in range(2))
    frames = scenes(rng, 4, SMALL)
    push_together(ours, frames)
    for session, frame in zip(theirs, frames, strict=True):
        session.push(frame)
    for frame in frames:
        frame[10:20, 10:20] += 60
    failed = ours[2]
    run = TailRunner.run

    def fail(self, tensors):
        if tensors is failed._tensors:
            raise TailError("made by the test")
        return run(self, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(TailRunner, "run", fail)
        found = push_together(ours, [frames[0][1:], *frames[1:]])
    assert [type(outcome) for outcome in found] == [ValueError, FrameResult, TailError, FrameResult]
    assert_same(found[1], theirs[1].push(frames[1]))
    assert_same(found[3], theirs[3].push(frames[3]))
    found = push_together(ours, frames)
    assert [outcome.decision for outcome in found if isinstance(outcome, FrameResult)] == [
        "partial", "reuse", "keyframe", "reuse",
    ]  # fmt: skip
    assert_same(found[0], theirs[0].push(frames[0]))


@pytest.mark.parametrize("where", ["begin_steps", "run_together"])
def test_after_an_error_in_the_steps_the_next_frame_is_recomputed_whole(where, monkeypatch: pytest.MonkeyPatch):
    plan, rng = small_network(most=2), np.random.default_rng(8)
    sessions, frames = [Session(plan, exact=True) for _ in range(3)], scenes(rng, 3, SMALL)
    push_together(sessions, frames)
    for frame in frames:
        frame[5:9, 40:60] += 90

    def fail(*arguments):
        raise MemoryError("made by the test")

    with monkeypatch.context() as patch:
        if where == "begin_steps":
            patch.setattr(sessions[1], "begin_steps", fail)
        else:
            patch.setattr(together, "run_together", fail)
        found = push_together(sessions, frames)
    lost = [1] if where == "begin_steps" else [0, 1, 2]
    assert [i for i, outcome in enumerate(found) if isinstance(outcome, MemoryError)] == lost
    for i, outcome in enumerate(push_together(sessions, frames)):
        assert isinstance(outcome, FrameResult)
        assert outcome.decision == ("keyframe" if i in lost else "reuse")
        expected = Session(plan, exact=True).push(frames[i])
        assert [v.tobytes() for v in outcome.outputs.values()] == [v.tobytes() for v in expected.outputs.values()]


def test_only_partial_frames_wait_and_no_more_than_the_plan_says(monkeypatch: pytest.MonkeyPatch):
    plan, rng = small_network(most=3), np.random.default_rng(9)
    sessions, frames = [Session(plan) for _ in range(8)], scenes(rng, 8, SMALL)
    sizes, run = [], together.run_together
    monkeypatch.setattr(together, "run_together", lambda found, ends: (sizes.append(found.size), run(found, ends)))
    push_together(sessions, frames)
    assert sizes == []
    for frame in frames[:7]:
        frame[:8, :8] ^= 255
    found = push_together(sessions, frames)
    assert sizes == [3, 3, 1]
    assert all(isinstance(outcome, FrameResult) and outcome.infer_ns > 0 for outcome in found)
    assert push_together([], []) == []


def test_what_is_no_batch_is_refused_before_anything_is_run():
    plan, other = small_network(), small_network()
    session, frame = Session(plan), np.zeros(SMALL, np.uint8)
    with pytest.raises(ValueError, match="got one twice"):
        push_together([session, session], [frame, frame])
    with pytest.raises(ValueError, match="sessions of one plan, got several"):
        push_together([session, Session(other)], [frame, frame])
    with pytest.raises(ValueError, match="for each of 1 sessions, got 2, 1 and 1"):
        push_together([session], [frame, frame])
    with pytest.raises(ValueError, match="for each of 1 sessions, got 1, 2 and 1"):
        push_together([session], [frame], [None, None])
    assert session.push(frame).reason == "no stored frame"


def test_masks_belong_to_the_thread():
    """Other plans with more maps, and more frames, make them grow."""
    space = workspace()
    small = small_network(most=2)
    before = space.packed(small.needs, 2)
    assert all(a is b for a, b in zip(before, space.packed(small.needs, 2), strict=True))
    larger = replace(small.needs, mask_words=small.needs.mask_words + before[0].size)
    assert [masks.size for masks in space.packed(larger, 3)] == [larger.mask_words] * 3
    assert space.nbytes > 3 * 8 * larger.mask_words
    assert len(space.packed(small.needs, 2)) == 2


@pytest.mark.data
@pytest.mark.parametrize("name", ["yolox_nano", "nanodet_m_320"])
def test_real_models_on_real_clips(name):
    file = DATA / "models" / f"{name}.onnx"
    clips = [DATA / "videos" / clip for clip in ("intel_one-by-one-person-detection.mp4", "sam2_05_default_juggle.mp4")]
    for needed in (file, *clips):
        if not needed.exists():
            pytest.skip(f"needs {needed.name} in ../shared/data/{needed.parent.name}")
    opened = open_model(file, (640, 384))
    plan = replace(opened.compile(), together=3)
    images = []
    for clip in clips:
        with closing(open_source(clip, start=50, frames=12)) as source:
            images.append([fit(frame.image, opened.size, opened.spec)[0] for frame in source])
    ours, theirs = ([Session(plan, exact=i == 3) for i in range(4)] for _ in range(2))
    for n in range(8):
        frames = [images[i % 2][n + i] for i in range(4)]
        for outcome, session, frame in zip(push_together(ours, frames), theirs, frames, strict=True):
            assert_same(outcome, session.push(frame))
