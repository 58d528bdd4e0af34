"""A picture that moves as a whole: the closed loop holds, exact sessions keep every bit, and it pays."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.geometry import gather, transposed_window, window
from cache.moving import inputs_per_output
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import FrameResult, Session
from service.opened import OpenedModel, open_model
from service.preprocess import fit
from service.sources import open_source
from tests.cache.closed_loop import arena_of, largest_excess
from tests.cache.onnx_models import build, node, weights
from tests.cache.random_models import models

LOOSE = Policy(levels=(Level(float("inf"), 0.3, 2),), global_epsilon=0.3)
HEIGHT, WIDTH = 128, 160


def scene(seed: int = 0, height: int = 3 * HEIGHT, width: int = 3 * WIDTH) -> np.ndarray:
    """Something larger than the picture to look around in."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))


def look(at: np.ndarray, top: int, left: int) -> np.ndarray:
    return np.ascontiguousarray(at[top : top + HEIGHT, left : left + WIDTH])


def network(policy: Policy = LOOSE, ends: int = 4) -> Plan:
    """Strides, a pyramid, a gate of the whole picture, a sum, dilation, a transposed convolution, two outputs.

    ends : channels of the last one; more than 4 are computed phase by phase.
    """
    constants = {
        "w0": weights(16, 3, 3, 3) / 64, "w1": weights(32, 16, 3, 3) / 12, "w2": weights(32, 32, 3, 3) / 16,
        "w3": weights(32, 32, 1, 1) / 6, "w4": weights(32, ends, 2, 2) / 6, "s": np.array([1, 1, 2, 2], np.float32),
        "wd": weights(16, 1, 3, 3) / 3,
    }  # fmt: skip
    nodes = [
        node("Conv", "x w0", "a0", pads=[1] * 4, strides=[2, 2]), node("Relu", "a0", "a"),
        node("Conv", "a wd", "d", pads=[2] * 4, dilations=[2, 2], group=16),
        node("Conv", "d w1", "b", pads=[1] * 4, strides=[2, 2]),
        node("MaxPool", "b", "p", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
        node("Conv", "p w2", "c", pads=[1] * 4), node("GlobalAveragePool", "c", "g"), node("Conv", "g w3", "h"),
        node("Sigmoid", "h", "i"), node("Mul", "c i", "j"), node("Resize", "j - s", "k", mode="nearest"),
        node("Add", "k b", "y"), node("ConvTranspose", "y w4", "z", strides=[2, 2]),
    ]  # fmt: skip
    return Plan.compile(
        load_model(build(nodes, constants, shape=(1, 3, HEIGHT, WIDTH), outputs=("y", "z"))), policy=policy
    )


@pytest.fixture(autouse=True)
def cheap_copies(monkeypatch) -> None:
    """Networks as small as these are not worth a copy."""
    monkeypatch.setattr("cache.moving.COPIED_BYTES_NS", 1e9)


@pytest.fixture(scope="module", params=[0, 40], ids=["copied", "with room"])
def plan(request) -> Plan:
    return network(replace(LOOSE, motion_room_px=request.param), 4 if request.param else 16)


def test_how_maps_follow(plan):
    assert plan.pitches.step == (8, 8)
    assert plan.pitches.exact_step == (32, 32)
    assert not any(plan.pitches.wholly)


@pytest.mark.parametrize(
    ("span", "inputs", "ratio"),
    [
        (window(40, 20, 3, 2, 1, 1), 40, Fraction(2)),
        (transposed_window(20, 40, 3, 2, 1, 1), 20, Fraction(1, 2)),
        (transposed_window(20, 41, 3, 2, 1, 0), 20, Fraction(1, 2)),
        (gather(np.arange(40, dtype=np.int32) // 2), 20, Fraction(1, 2)),
        (gather(np.arange(30, dtype=np.int32) * 2 // 3), 20, Fraction(2, 3)),
        (gather(np.arange(3, 33, dtype=np.int32)), 40, Fraction(1)),
        (gather(np.arange(1, 40, 2, dtype=np.int32)), 40, Fraction(2)),
        (gather(np.arange(40, dtype=np.int32)[::-1]), 40, None),
        (gather(np.zeros(4, np.int32)), 2, None),
    ],
)
def test_windows_say_how_far_apart_they_lie(span, inputs, ratio):
    assert inputs_per_output(span, inputs) == ratio


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("move", [(0, 32), (32, 0), (-32, 0), (0, -64), (32, -32), (-32, 32)])
def test_stored_values_follow_the_picture(plan, exact, move):
    big, session = scene(), Session(plan, exact=exact)
    session.push(look(big, HEIGHT, WIDTH))
    frame = look(big, HEIGHT - move[0], WIDTH - move[1])
    found = session.push(frame)
    assert found.reason.startswith(f"picture moved by ({move[0]}, {move[1]}) px")
    assert found.decision == "partial"
    assert found.compute_fraction < 0.85
    assert largest_excess(session) < 1e-4
    assert not exact or same_as_whole(session, frame, found)


def same_as_whole(session: Session, frame: np.ndarray, found: FrameResult) -> bool:
    """Whether outputs are those of a full recompute, bit for bit."""
    whole = Session(session.plan, exact=True).push(frame).outputs
    return all(found.outputs[name].tobytes() == value.tobytes() for name, value in whole.items())


@pytest.mark.parametrize("exact", [False, True])
def test_a_long_walk(plan, exact):
    """Moves, still frames, other changes, a reset: by a stream that goes round in its arena, or is copied."""
    big, session, rng = scene(1), Session(plan, exact=exact), np.random.default_rng(2)
    assert (plan.room is not None) == (plan.policy.motion_room_px > 0)
    top, left, moved = HEIGHT, WIDTH, 0
    for n in range(40):
        frame = look(big, top, left)
        if n % 3 == 2:
            y, x = rng.integers(HEIGHT - 16), rng.integers(WIDTH - 16)
            frame[y : y + 16, x : x + 16] ^= 64
        if n == 20:
            session.reset()
        found = session.push(frame)
        moved += found.reason.startswith("picture moved")
        assert largest_excess(session) < 1e-4
        assert not exact or same_as_whole(session, frame, found)
        if n % 4 != 3:
            top = int(np.clip(top + rng.integers(-1, 2) * 32, 0, 2 * HEIGHT))
            left = int(np.clip(left + rng.integers(-1, 2) * 32, 0, 2 * WIDTH))
    assert moved > 15


@pytest.mark.parametrize("move", [(32, 0), (0, 32)])
def test_winograd_tiles_that_move_to_where_tiles_are_cut_are_computed_again(move, monkeypatch):
    """Without padding no window there is clipped, and a cut tile rounds as it sees less."""
    monkeypatch.setattr("cache.winograd.NARROWEST", 1)
    nodes = [node("Conv", "x w", "a"), node("Conv", "a v", "y")]
    constants = {"w": weights(16, 3, 1, 1), "v": weights(16, 16, 3, 3)}
    plan = Plan.compile(load_model(build(nodes, constants, shape=(1, 3, HEIGHT, WIDTH))), policy=LOOSE)
    assert plan.steps[1].step.method.grain == 4
    assert plan.maps[plan.steps[1].step.target].height % 4 == 2
    session, big = Session(plan, exact=True), scene(6)
    for n in range(3):
        frame = look(big, HEIGHT - n * move[0], WIDTH - n * move[1])
        found = session.push(frame)
        assert n == 0 or found.reason.startswith("picture moved")
        assert same_as_whole(session, frame, found)


def test_maps_of_float16_follow():
    plan, big = network(replace(LOOSE, cache_dtype="float16")), scene(3)
    session = Session(plan, exact=True)
    for n in range(4):
        frame = look(big, HEIGHT + 32 * n, WIDTH - 32 * (n // 2))
        found = session.push(frame)
        assert n == 0 or found.reason.startswith("picture moved")
        assert same_as_whole(session, frame, found)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("room", [0, 40])
@pytest.mark.parametrize("move", [(32, 0), (-32, 32), (64, -64), (0, -32)])
def test_what_comes_in_holds_nothing_of_what_lay_there(dtype, room, move):
    """Lanes that hold no channel are not compared, so that what lies in them would stay."""
    plan = network(replace(LOOSE, motion_room_px=room, cache_dtype=dtype))
    session, big = Session(plan), scene(5)
    session.push(look(big, HEIGHT, WIDTH))
    moves = plan.pitches.moves(*move)
    session._state.move(moves)
    state, seen = session._state, 0
    layout = state.layout.stored if dtype == "float16" else plan.maps
    held = state.store if dtype == "float16" else arena_of(session)
    for info, (down, right, _) in zip(layout[1:], moves[1:].tolist(), strict=True):
        if dtype == "float32" or state.layout.is_stored[info.index]:
            pixels = np.moveaxis(info.view(held), -1, 0) if info.is_interleaved else info.view(held)
            came = np.ones(pixels.shape[1:3], bool)
            height, width = came.shape
            came[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = False
            assert not pixels[:, came].any()
            seen += np.count_nonzero(came)
    assert seen > 100
    assert np.count_nonzero(held) > 1000


@pytest.mark.parametrize("as_tensor", [False, True])
def test_after_a_move_that_broke_off_the_next_frame_is_whole(plan, monkeypatch, as_tensor):
    session, big = Session(plan, exact=True), scene(4)
    session.push(look(big, HEIGHT, WIDTH))
    with monkeypatch.context() as broken:
        broken.setattr("cache.state.clear_borders", lambda *_: 1 / 0)
        broken.setattr("cache.sliding.clear_borders", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.push(look(big, HEIGHT + 32, WIDTH))
    frame = look(big, HEIGHT + 64, WIDTH)
    found = session.push_tensor(plan.tensor(frame)) if as_tensor else session.push(frame)
    assert (found.decision, found.reason) == ("keyframe", "no stored frame")
    assert same_as_whole(session, frame, found)


SMALL = replace(LOOSE, tile=4)


@given(models(max_layers=7), st.integers(0, 2**31), st.booleans(), st.sampled_from([0, 8]))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_networks_and_moves(made, seed, exact, room):
    model, (channels, height, width) = made
    plan = Plan.compile(load_model(model), policy=replace(SMALL, motion_room_px=room))
    session, rng = Session(plan, exact=exact), np.random.default_rng(seed)
    big = rng.integers(0, 256, (3 * height, 3 * width, channels), dtype=np.uint8)
    top, left = height, width
    step = plan.pitches.exact_step if exact else plan.pitches.step
    for _ in range(6):
        frame = big[top : top + height, left : left + width].copy()
        frame[rng.integers(height) :, rng.integers(width) :][:4, :4] ^= 200
        found = session.push(frame)
        assert largest_excess(session) < 1e-4
        assert not exact or same_as_whole(session, frame, found)
        top = int(np.clip(top + rng.integers(-1, 2) * step[0], 0, 2 * height))
        left = int(np.clip(left + rng.integers(-1, 2) * step[1], 0, 2 * width))


DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def detector() -> OpenedModel:
    path = DATA / "models" / "yolox_nano.onnx"
    if not path.exists():
        pytest.skip(f"needs {path}")
    return open_model(path, (640, 384))


@pytest.fixture(scope="module")
def compiled(detector) -> Plan:
    return detector.compile(replace(detector.policy, motion_room_px=128))


def images(clip: str, start: int, frames: int) -> list[np.ndarray]:
    path = DATA / "videos" / clip
    if not path.exists():
        pytest.skip(f"needs {path}")
    with closing(open_source(path, start=start, frames=frames)) as source:
        return [frame.image for frame in source]


def work(plan: Plan, clip: list[np.ndarray], follows: bool) -> tuple[float, int]:
    """Mean share of a dense frame's work after the first frame, and frames that were moved."""
    session = Session(plan)
    if not follows:
        session._opening._mover.shifts = session._opening._mover.shifts[:0]
    results = [session.push(frame) for frame in clip]
    moved = sum(r.reason.startswith("picture moved") for r in results)
    assert not moved or largest_excess(session) < 1e-4
    return float(np.mean([r.compute_fraction for r in results[1:]])), moved


@pytest.mark.data
def test_a_real_picture_that_scrolls_pays(compiled):
    """Noise of its own in every frame, as a camera that steps has."""
    (big,), rng = images("sam2_05_default_juggle.mp4", 60, 1), np.random.default_rng(0)
    views = [big[100:484, x : x + 640] for x in range(0, 640, 32)]
    clip = [np.clip(np.rint(v + rng.normal(0, 1, v.shape)), 0, 255).astype(np.uint8) for v in views]
    with_motion, moved = work(compiled, clip, True)
    without, none = work(compiled, clip, False)
    assert (moved, none) == (len(clip) - 1, 0)
    assert with_motion < 0.5 * without


@pytest.mark.data
@pytest.mark.parametrize("name", ["sam2_bedroom.mp4", "carnd_solidWhiteRight.mp4"], ids=["handheld", "dashcam"])
def test_cameras_that_move_otherwise_are_left_alone(detector, compiled, name):
    clip = [fit(image, detector.size, detector.spec)[0] for image in images(name, 20, 12)]
    with_motion, moved = work(compiled, clip, True)
    assert moved == 0
    assert with_motion == work(compiled, clip, False)[0]
