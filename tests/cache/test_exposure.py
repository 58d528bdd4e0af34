"""Exposure and white balance that change: brought back where they explain the difference, and not for long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.exposure import MOST_FRAMES, SETTLED, Exposure, fit_line
from cache.policy import Policy
from cache.session import Session
from tests.cache.test_session import LOOSE, small_network

HEIGHT, WIDTH = 48, 64
RNG = np.random.default_rng(0)
SCENE = RNG.integers(30, 200, (HEIGHT // 4, WIDTH // 4, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)


def exposed(scene: np.ndarray, gain: object = 1.0, offset: object = 0.0) -> np.ndarray:
    return np.clip(np.rint(scene * np.asarray(gain) + np.asarray(offset)), 0, 255).astype(np.uint8)


def session(**policy: object) -> Session:
    """One that refreshes nothing, so that what is recomputed is what changed."""
    return Session(small_network(replace(LOOSE, **({"refresh_frames": 0} | policy))))  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_line_is_found_through_what_moved(share: float):
    x = RNG.uniform(20, 220, 1200).astype(np.float32)
    y = np.rint(0.9 * x + 12).astype(np.float32)
    moved = RNG.random(x.size) < share
    y[moved] = RNG.uniform(20, 220, moved.sum())
    found = fit_line(x, y)
    assert found is not None
    assert found == pytest.approx((0.9, 12), abs=0.35 if share else 0.05) or abs(found[0] * 120 + found[1] - 120) < 0.5


def test_no_line_is_found_where_nothing_is_within_range():
    black = np.zeros(1000, np.float32)
    assert fit_line(black, black) is None
    assert fit_line(black + 100, black + 255) is None


def test_a_flat_picture_gives_an_offset():
    flat = np.full(1000, 100, np.float32)
    assert fit_line(flat, flat + 7) == (1.0, 7.0)


@pytest.mark.parametrize(
    ("gain", "offset"), [(0.95, 4.0), (1.05, -3.0), (1.0, 6.0), ((1.05, 1.0, 0.95), 0.0)],
    ids=["darker", "brighter", "offset", "white balance"],
)  # fmt: skip
def test_another_exposure_is_no_change(gain: object, offset: float):
    stream = session()
    stream.push(SCENE)
    found = stream.push(exposed(SCENE, gain, offset))
    assert (found.decision, found.compute_fraction) == ("reuse", 0.0)
    assert found.reason == "nothing changed, exposure brought back"
    assert session(exposure=0.0).push(SCENE).decision == "keyframe"


def test_without_it_everything_is_recomputed():
    stream = session(exposure=0.0)
    stream.push(SCENE)
    assert stream.push(exposed(SCENE, 0.95, 12)).changed_tiles == 48


def test_what_moves_meanwhile_is_all_that_is_recomputed():
    stream = session()
    stream.push(SCENE)
    moved = SCENE.copy()
    moved[8:16, 16:24] = 255 - moved[8:16, 16:24]
    found = stream.push(exposed(moved, 0.95, 4))
    assert found.decision == "partial"
    assert found.tiles.sum() == 1
    assert found.tiles[1, 2]


def test_what_is_stored_is_the_picture_at_the_old_exposure():
    """Outputs are those of the frame that was brought back: close to those of the picture before."""
    stream = session()
    before = {name: value.copy() for name, value in stream.push(SCENE).outputs.items()}
    for n in range(5):
        after = stream.push(exposed(SCENE, 1 - 0.01 * n, 2 * n))
    for name, value in after.outputs.items():
        assert np.abs(value - before[name]).max() < 0.1 * before[name].std()


def test_once_settled_the_frame_is_taken_as_it_is():
    stream, dark = session(), exposed(SCENE, 0.95, 0)
    stream.push(SCENE)
    found = [stream.push(dark) for _ in range(SETTLED + 2)]
    assert [result.decision for result in found[:SETTLED]] == ["reuse"] * SETTLED
    settled = found[SETTLED]
    assert settled.reason.endswith("exposure settled")
    assert settled.changed_tiles > 40
    assert np.array_equal(stream._opening.reference, dark)
    assert found[-1].reason == "nothing changed"


def test_a_lamp_that_never_settles_is_taken_in_after_a_while():
    stream = session()
    stream.push(SCENE)
    reasons = [stream.push(exposed(SCENE, 1, 5 * np.sin(2 * n))).reason for n in range(1, MOST_FRAMES + 60)]
    assert sum("exposure settled" in reason for reason in reasons) == 1
    recomputed = [reason for reason in reasons if "brought back" not in reason and reason != "nothing changed"]
    assert len(recomputed) < 5


def test_too_far_is_taken_as_it_is():
    stream = session(exposure=20.0)
    stream.push(SCENE)
    far = stream.push(exposed(SCENE, 1.0, 40))
    assert (far.decision, far.reason) == ("keyframe", "48 of 48 tiles changed")
    assert np.array_equal(stream._opening.reference, exposed(SCENE, 1.0, 40))


def test_a_drift_of_daylight_costs_a_frame_now_and_then():
    stream = session()
    stream.push(SCENE)
    found = [stream.push(exposed(SCENE, 1, n / 5)) for n in range(150)]
    assert sum(result.compute_fraction for result in found) < 2.5
    plain = session(exposure=0.0, tile_noise=0.0)
    plain.push(SCENE)
    assert sum(plain.push(exposed(SCENE, 1, n / 5)).compute_fraction for n in range(150)) > 4


def test_a_camera_that_moves_is_soon_left_in_peace():
    """No exposure explains another picture: it is tried less and less often."""
    state = Exposure(20.0, SCENE.shape)
    tried = 0
    for _ in range(200):
        if state.is_worth_trying:
            tried += 1
            state.match(SCENE, SCENE[::-1])
            state.fail()
        state.advance()
    assert tried < 10


def test_exact_sessions_take_every_frame_as_it_is():
    plan = small_network()
    stream, fresh = Session(plan, exact=True), Session(plan, exact=True)
    stream.push(SCENE)
    dark = exposed(SCENE, 0.95, 4)
    found, full = stream.push(dark), fresh.push(dark)
    for name, value in full.outputs.items():
        assert found.outputs[name].tobytes() == value.tobytes()


def test_other_channel_counts_are_passed_over():
    assert not Exposure(20.0, (48, 64, 5)).is_worth_trying
    assert not Exposure(0.0, SCENE.shape).is_worth_trying


@pytest.mark.parametrize("name", ["exposure", "tile_noise", "tile_difference"])
@pytest.mark.parametrize("value", [-1.0, 256.0, float("nan"), float("inf")])
def test_bad_values_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"expected {name} of 0 to 255, got"):
        Policy(**{name: value})  # type: ignore[arg-type]
