"""The closed loop: what a stream stores never strays from what its stored inputs say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import STAGES, Session, stage_weights
from tests.cache.closed_loop import largest_excess
from tests.cache.random_models import ModelMaker, models

LOOSE = Policy(levels=(Level(float("inf"), 0.3, 2),), global_epsilon=0.3)
PLAIN = replace(LOOSE, tile_noise=0.0, exposure=0.0)
"""Every tile by the same limit, every frame as it is."""


def small_network(policy: Policy | None = None) -> Plan:
    m = ModelMaker(5, 3, 48, 64)
    x = m.activate(m.conv("image", 3, 16, 3, strides=[2, 2], pads=[1] * 4), 16, "Relu")
    y = m.activate(m.conv(x, 16, 16, 3, pads=[1] * 4), 16, "Silu")
    z = m.activate(m.conv(m.node("Add", [x, y]), 16, 32, 3, strides=[2, 2], pads=[1] * 4), 32, "Relu")
    return Plan.compile(load_model(m.finish([z])), policy=policy or LOOSE)


@given(models(max_layers=6), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_stored_values_stay_within_their_thresholds(made, seed):
    model, (channels, height, width) = made
    session = Session(Plan.compile(load_model(model), policy=LOOSE))
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    session.push(frame)
    for _ in range(6):
        part = frame[rng.integers(height) :, rng.integers(width) :][:12, :12]
        part[:] = np.clip(part.astype(int) + rng.integers(-40, 41, part.shape), 0, 255)
        session.push(frame)
        assert largest_excess(session) < 1e-4


def test_a_slow_ramp_does_not_drift():
    """300 frames of light coming up by a third of a grey level: the error at the end is that of any frame."""
    plan = small_network()
    rng = np.random.default_rng(1)
    scene = rng.integers(0, 120, (48, 64, 3)).astype(np.float32)
    session, dense = Session(plan), Session(plan)
    errors = []
    for n in range(300):
        frame = np.clip(scene + n / 3, 0, 255).astype(np.uint8)
        result = session.push(frame)
        if n % 20 == 19:
            dense.reset()
            full = dense.push(frame)
            gaps = [np.abs(result.outputs[k] - v).max() / v.std() for k, v in full.outputs.items()]
            errors.append(max(gaps))
        assert largest_excess(session) < 1e-4 if n % 50 == 0 else True
    assert max(errors[-3:]) < 2 * max(errors[:3]) + 0.1


def test_work_follows_change():
    plan = small_network()
    session = Session(plan)
    frame = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    first = session.push(frame)
    assert (first.decision, first.compute_fraction) == ("keyframe", 1.0)
    assert session.push(frame).decision == "reuse"
    frame[8:16, 8:16] ^= 128
    moved = session.push(frame)
    assert moved.decision == "partial"
    assert moved.changed_tiles == 1
    assert moved.tiles[1, 1]
    assert moved.tiles.sum() == 1
    assert 0 < moved.compute_fraction < 0.35
    cut = session.push(255 - frame)
    assert cut.decision == "keyframe"
    assert cut.reason == "48 of 48 tiles changed"


def test_stages_share_the_work_between_them():
    plan = small_network()
    session, frame = Session(plan), np.zeros((48, 64, 3), np.uint8)
    assert session.push(frame).stages == pytest.approx(np.ones(STAGES))
    frame[8:16, 8:16] = 200
    moved = session.push(frame)
    assert moved.stages.mean() == pytest.approx(moved.compute_fraction)
    assert np.ptp(moved.stages) > 0
    macs = [planned.step.macs for planned in plan.steps]
    assert session.step_shares @ macs / plan.total_macs == pytest.approx(moved.compute_fraction)
    assert session.push(frame).stages.tolist() == [0.0] * STAGES
    assert not session.step_shares.any()
    first, second = stage_weights(np.array([3.0, 0.0, 1.0])), stage_weights(np.zeros(2))
    assert first.sum(axis=1) == pytest.approx(np.ones(STAGES))
    assert first[:6, 0] == pytest.approx(np.ones(6))
    assert first[6:, 2] == pytest.approx(np.ones(2))
    assert not second.any()


def test_changes_below_the_threshold_are_remembered_until_they_count():
    session = Session(small_network(replace(PLAIN, refresh_frames=0)))
    frame = np.full((48, 64, 3), 100, np.uint8)
    session.push(frame)
    for step, expected in ((1, 0), (2, 0), (3, 48)):
        assert session.push(frame + np.uint8(step)).changed_tiles == expected


def test_bad_frames_lose_nothing():
    session = Session(small_network())
    frame = np.zeros((48, 64, 3), np.uint8)
    session.push(frame)
    with pytest.raises(ValueError, match=r"expected a frame uint8\[48, 64, 3\], got float32\[48, 64, 3\]"):
        session.push(frame.astype(np.float32))
    with pytest.raises(ValueError, match=r"got uint8\[48, 64\]"):
        session.push(frame[:, :, 0])
    with pytest.raises(ValueError, match=r"expected a tensor float32\[1, 3, 48, 64\], got float32\[3, 48, 64\]"):
        session.push_tensor(np.zeros((3, 48, 64), np.float32))
    assert session.push(frame).decision == "reuse"


def test_frames_and_tensors_may_be_mixed():
    plan = small_network()
    session = Session(plan, exact=True)
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    session.push(frame)
    as_tensor = np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32))
    assert session.push_tensor(as_tensor).decision == "reuse"
    as_tensor[0, 1, 5, 7] += 0.25
    changed = session.push_tensor(as_tensor)
    assert (changed.decision, changed.changed_tiles) == ("partial", 1)
    back = session.push(frame)
    assert back.decision == "keyframe"
    fresh = Session(plan).push(frame)
    for name, value in fresh.outputs.items():
        assert back.outputs[name].tobytes() == value.tobytes()


@pytest.mark.parametrize(
    ("changed", "expected"), [(0, "reuse"), (1, "partial"), (45, "partial"), (46, "keyframe"), (48, "keyframe")]
)
def test_nearly_everything_changed_is_a_keyframe(changed, expected):
    session, frame = Session(small_network()), np.zeros((48, 64, 3), np.uint8)
    assert session.push(frame).reason == "no stored frame"
    for tile in range(changed):
        top, left = tile // 8 * 8, tile % 8 * 8
        frame[top : top + 8, left : left + 8] = 200
    found = session.push(frame)
    assert (found.decision, found.changed_tiles) == (expected, changed)
    assert found.reason == (f"{changed} of 48 tiles changed" if changed else "nothing changed")


def test_memory_is_counted():
    session = Session(small_network())
    assert session.nbytes > session.plan.arena_bytes > 48 * 64 * 4


def test_streams_of_a_thread_take_turns_with_one_image():
    plan = small_network()
    assert plan.maps[0].outside
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
    streams = [Session(plan, exact=True) for _ in frames]
    for turn in range(6):
        for frame, stream in zip(frames, streams, strict=True):
            frame[8 * turn : 8 * turn + 3, 20:25] = rng.integers(0, 256, (3, 5, 3))
            found = stream.push(frame)
            assert found.decision == ("partial" if turn else "keyframe")
            for name, value in Session(plan, exact=True).push(frame).outputs.items():
                assert found.outputs[name].tobytes() == value.tobytes()


def test_an_image_that_is_handed_out_stays_with_the_stream():
    m = ModelMaker(5, 3, 48, 64)
    m.conv("image", 3, 16, 3)
    plan = Plan.compile(load_model(m.finish([m.conv("image", 3, 16, 3), m.node("Flatten", ["image"])])))
    assert not plan.maps[0].outside


def joined_network() -> Plan:
    """An output of two maps: one that sees the image in place, one that sees it 16 rows further down."""
    m = ModelMaker(5, 3, 48, 64)
    down = [m.weight(np.array(v, np.int64)) for v in ([0, 0, 16, 0, 0, 0, 0, 0], [0], [48], [2])]
    lower = m.node("Slice", [m.node("Pad", ["image", down[0]]), *down[1:]])
    joined = m.node("Concat", [m.conv("image", 3, 20, 3, pads=[1] * 4), m.conv(lower, 3, 7, 3, pads=[1] * 4)], axis=1)
    return Plan.compile(
        load_model(m.finish([joined])), policy=Policy(levels=(Level(float("inf"), 0.1, 1),), precision="strict")
    )


@pytest.mark.parametrize(
    ("row", "first", "end"), [(0, 0, 18), (20, 19, 38), (40, 39, 42), (47, 46, 48)], ids=["0", "20", "40", "47"]
)
def test_only_rows_that_were_written_are_handed_out(row, first, end):
    plan = joined_network()
    (tap,) = plan.taps.values()
    assert len(tap.maps) == 2
    session, rng = Session(plan, exact=True), np.random.default_rng(4)
    x = rng.standard_normal(plan.input_shape).astype(np.float32)
    whole = session.push_tensor(x).outputs[tap.name].copy()
    held = session._tensors[tap.name]
    held[:] = np.nan
    x[0, :, row, 30] += 1
    found = session.push_tensor(x).outputs[tap.name]
    fresh = Session(plan, exact=True).push_tensor(x).outputs[tap.name]
    assert found[:, :, first:end].tobytes() == fresh[:, :, first:end].tobytes()
    assert np.isnan(found[:, :, :first]).all()
    assert np.isnan(found[:, :, end:]).all()
    assert fresh[:, :, :first].tobytes() == whole[:, :, :first].tobytes()
    assert fresh[:, :, end:].tobytes() == whole[:, :, end:].tobytes()


def test_after_a_reset_a_stream_is_as_new():
    """The same frames again give the same results, whatever was learnt of noise, exposure and cost meanwhile."""
    session, rng = Session(small_network()), np.random.default_rng(7)
    scene = rng.integers(30, 200, (48, 64, 3)).astype(np.float64)
    frames = [
        np.clip(np.rint(scene + 5 * np.sin(n) + rng.standard_normal(scene.shape) * 3), 0, 255).astype(np.uint8)
        for n in range(80)
    ]
    runs = []
    for _ in range(2):
        session.reset()
        runs.append([(r.compute_fraction, r.reason, r.outputs["t14"].tobytes()) for r in map(session.push, frames)])
    assert runs[0] == runs[1]
