"""Streams that defeat naive caching: what they cost, made of real frames or of an encoder's own output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from benchmarks.hard_streams import bands, clock, cut, dark, daylight, flicker, pulses, repeated, white_balance
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import FrameResult, Session
from tests.cache.random_models import ModelMaker

HEIGHT, WIDTH, FRAMES = 192, 256, 48
Images = list[np.ndarray]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A small network of three strides, of which nothing is refreshed."""
    m = ModelMaker(11, 3, HEIGHT, WIDTH)
    x = m.activate(m.conv("image", 3, 16, 3, strides=[2, 2], pads=[1] * 4), 16, "Relu")
    x = m.activate(m.conv(x, 16, 16, 3, strides=[2, 2], pads=[1] * 4), 16, "Relu")
    x = m.activate(m.conv(x, 16, 32, 3, strides=[2, 2], pads=[1] * 4), 32, "Relu")
    return Plan.compile(
        load_model(m.finish([m.activate(m.conv(x, 32, 32, 3, pads=[1] * 4), 32, "Relu")])),
        policy=Policy(refresh_frames=0),
    )


def plain(plan: Plan) -> Plan:
    """The same without noise, exposure and motion: each tile by one limit, each frame as it is."""
    policy = replace(plan.policy, tile_noise=0.0, exposure=0.0, motion=False)
    return replace(plan, policy=policy)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A street's worth of edges, smooth areas and texture, with a camera's noise."""
    rng = np.random.default_rng(5)
    image = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 9) * 3 - 256
    for _ in range(14):
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        colour = tuple(int(c) for c in rng.integers(40, 200, 3))
        cv2.rectangle(image, (x, y), (x + int(rng.integers(10, 60)), y + int(rng.integers(10, 60))), colour, -1)
    return np.clip(image, 20, 220)


def still(scene: np.ndarray, frames: int = FRAMES, sigma: float = 0.7) -> Images:
    """A fixed camera before which nothing moves."""
    rng = np.random.default_rng(1)
    return [np.clip(scene + rng.standard_normal(scene.shape) * sigma, 0, 255).astype(np.uint8) for _ in range(frames)]


def run(plan: Plan, frames: Images) -> list[FrameResult]:
    """Every frame but the first."""
    session = Session(plan)
    return [session.push(np.ascontiguousarray(frame)) for frame in frames][1:]


def work(results: list[FrameResult]) -> float:
    return float(np.mean([result.compute_fraction for result in results]))


def test_a_still_picture_costs_next_to_nothing(plan: Plan, scene: np.ndarray):
    assert work(run(plan, still(scene))) < 0.02


def test_pulses_of_an_encoder_cost_no_more_than_they_did(plan: Plan, scene: np.ndarray):
    """Through H.264 at a low rate: its keyframes code every tile anew, and nothing moves."""
    frames = pulses(still(scene, sigma=3.0))
    changed = [np.abs(b.astype(int) - a).mean() for a, b in pairwise(frames)]
    assert max(changed[14::15]) > 3 * np.median(changed), "the clip shows what it is meant to show"
    ours, before = work(run(plan, frames)), work(run(plain(plan), frames))
    assert ours <= before + 0.005
    assert ours < 0.15


@pytest.mark.parametrize(("case", "most"), [(white_balance, 0.1), (daylight, 0.1), (flicker, 0.1)])
def test_light_that_changes_costs_little(plan: Plan, scene: np.ndarray, case: Callable[[Images], Images], most: float):
    frames = case(still(scene))
    ours, before = work(run(plan, frames)), work(run(plain(plan), frames))
    assert ours < most
    assert before > ours


def test_flicker_in_bands_costs_no_more_than_it_did(plan: Plan, scene: np.ndarray):
    frames = bands(still(scene))
    assert work(run(plan, frames)) <= work(run(plain(plan), frames)) + 0.02


def test_a_dark_noisy_scene_is_soon_cheap(plan: Plan, scene: np.ndarray):
    frames = dark(still(scene, 96))
    before = run(plain(plan), frames)
    assert work(before[-32:]) > 0.2
    assert work(run(plan, frames)[-32:]) < 0.05


def test_a_burnt_in_clock_costs_its_own_tiles(plan: Plan, scene: np.ndarray):
    results = run(plan, clock(still(scene)))
    assert all(result.tiles[4:].sum() == 0 for result in results if result.reason.endswith("tiles changed"))
    assert 0 < work(results) < 0.12


def test_repeated_frames_are_reused(plan: Plan, scene: np.ndarray):
    moving = [np.roll(frame, 0, axis=1) for frame in still(scene, 16)]
    for n, frame in enumerate(moving):
        frame[40:70, 4 * n : 4 * n + 30] = 230
    results = run(plan, repeated([moving[n // 3] for n in range(0, 48, 3) for _ in range(3)]))
    reused = sum(result.decision == "reuse" for result in results)
    assert reused >= 30


def test_a_scene_cut_is_one_whole_frame(plan: Plan, scene: np.ndarray):
    results = run(plan, cut(still(scene)))
    whole = [n for n, result in enumerate(results) if result.decision == "keyframe"]
    assert whole == [FRAMES // 2 - 1]
    assert "tiles changed" in results[whole[0]].reason


def test_no_stream_costs_more_than_computing_it_whole(plan: Plan):
    """Noise without end, as from a torn cable: whole frames, and the reason says so."""
    rng = np.random.default_rng(2)
    frames = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(8)]
    assert {result.decision for result in run(plan, frames)} == {"keyframe"}


def test_in_exact_mode_half_a_changed_picture_is_computed_whole(plan: Plan):
    """Whatever a changed tile reaches is recomputed: from some share on that costs more than the whole frame."""
    session = Session(replace(plan, policy=Policy()), exact=True)
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    session.push(frame)
    reasons = []
    for _ in range(4):
        for y in range(0, HEIGHT, 16):
            frame[y : y + 8] = rng.integers(0, 256, (8, WIDTH, 3))
        reasons.append(session.push(frame).reason)
    assert reasons[0] == "384 of 768 tiles changed"
    assert reasons[-1] == "384 of 768 tiles changed: cheaper whole"
