"""Frames that come with a hint: what is not in it is not read, and nothing else is different."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.change import TileGrid
from cache.session import FrameResult, Session
from cache.together import push_together
from kernels.frame import CHANGED, KNOWN
from tests.cache.test_exposure import SCENE, exposed
from tests.cache.test_session import LOOSE, PLAIN, small_network
from tests.cache.test_together import assert_same, change

SHAPE = (48, 64, 3)
NOWHERE, EVERYWHERE = np.zeros((6, 8), bool), np.ones((6, 8), bool)


def differing(grid: TileGrid, frame: np.ndarray, before: np.ndarray) -> np.ndarray:
    """bool[rows, columns], tiles in which any byte differs."""
    rows, columns = grid.shape
    differs = (frame != before).any(axis=2).reshape(rows, grid.tile, columns, grid.tile)
    found: np.ndarray = differs.any(axis=(1, 3))
    return found


@pytest.fixture(scope="module")
def plan():
    return small_network(replace(PLAIN, refresh_frames=7))


@given(seed=st.integers(0, 2**31), exact=st.booleans(), more=st.sampled_from([0.0, 0.2]))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_with_a_hint_as_without_bit_for_bit(plan, seed, exact, more):
    """Refresh, cuts, resets, numbers instead of pixels and frames without a hint among them."""
    rng = np.random.default_rng(seed)
    hinted, plain = Session(plan, exact), Session(plan, exact)
    frame = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    for _ in range(25):
        before, frame = frame, change(rng, frame)
        kind = rng.random()
        if kind < 0.05:
            hinted.reset()
            plain.reset()
        elif kind < 0.1:
            tensor = np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32))
            assert_same(hinted.push_tensor(tensor), plain.push_tensor(tensor))
            continue
        within = differing(hinted.grid, frame, before) | (rng.random((6, 8)) < more)
        assert_same(hinted.push(frame, None, None if kind > 0.9 else within), plain.push(frame))


def test_what_is_outside_of_the_hint_is_not_read():
    stream, frame = Session(small_network(replace(PLAIN, refresh_frames=0))), SCENE.copy()
    stream.push(frame)
    frame[0:8, 0:8] ^= 255
    frame[40:48, 56:64] ^= 255
    corner = NOWHERE.copy()
    corner[5, 7] = True
    assert stream.push(frame, None, NOWHERE).decision == "reuse"
    found = stream.push(frame, None, corner)
    assert (found.changed_tiles, found.tiles[5, 7]) == (1, True)
    assert stream.push(frame).changed_tiles == 1, "the other one, now that all is looked at"


def test_after_a_frame_at_another_exposure_all_is_looked_at():
    stream = Session(small_network(replace(LOOSE, refresh_frames=0)))
    stream.push(SCENE)
    assert stream.push(exposed(SCENE, 0.95, 4)).reason.endswith("exposure brought back")
    moved = exposed(SCENE, 0.95, 4)
    moved[8:16, 16:24] = 255 - moved[8:16, 16:24]
    assert stream.push(moved, None, NOWHERE).changed_tiles == 1


def test_noise_is_learnt_from_whole_frames_only():
    rng = np.random.default_rng(3)
    told, asked = (Session(small_network(replace(LOOSE, refresh_frames=0))) for _ in range(2))
    for _ in range(30):
        frame = np.clip(SCENE + rng.integers(-2, 3, SHAPE), 0, 255).astype(np.uint8)
        told.push(frame, None, EVERYWHERE)
        asked.push(frame)
    assert not told._opening._noise.counts.any()
    assert asked._opening._noise.counts.any()


def comparing_again(stream: Session) -> None:
    """Compare a frame anew where it was compared already, and nothing was done yet."""
    once = stream._opening._open
    stream._opening._open = lambda frame, suspect, hinted=False, known=False: once(frame, suspect, hinted)


def odd_frame(rng: np.random.Generator, frame: np.ndarray) -> np.ndarray:
    """Another picture; one that has moved, or is of another exposure, wholly or in part; or much of it changed."""
    kind, tiles = rng.integers(6), rng.random((6, 8)) < rng.uniform(0.3, 0.8)
    if kind == 0:
        return np.ascontiguousarray(SCENE[::-1, ::-1])
    if kind == 1:
        return np.roll(frame, 8 * rng.integers(-2, 3, 2), (0, 1))
    odd = exposed(SCENE, 0.9, 6) if kind in (2, 3) else frame.copy()
    if kind in (3, 4):
        odd[tiles.repeat(8, 0).repeat(8, 1)] ^= 255
    return odd if kind != 5 else change(rng, frame)


@pytest.mark.parametrize("exact", [False, True])
def test_a_frame_that_was_compared_is_taken_as_if_it_were_compared_again(exact):
    """Where motion or another exposure was looked for, and did not explain it: with a hint and without."""
    rng, plan = np.random.default_rng(5), small_network(replace(LOOSE, refresh_frames=7))
    once, again = Session(plan, exact), Session(plan, exact)
    comparing_again(again)
    frame, asked = SCENE, 0
    for number in range(400):
        before, frame = frame, odd_frame(rng, frame) if number % 3 else change(rng, frame)
        if number % 16 == 0:  # what did not help is tried less and less often, until it is forgotten
            once.reset()
            again.reset()
        within = differing(once.grid, frame, before) if rng.random() < 0.5 else None
        found = once.push(frame, None, within)
        assert_same(found, again.push(frame, None, within))
        assert np.array_equal(once._opening._noise.counts, again._opening._noise.counts)
        assert np.array_equal(once._opening.reference, again._opening.reference)
        asked += bool(once._opening._words[KNOWN])
    assert asked > 10


def test_a_frame_is_compared_once():
    stream = Session(small_network(replace(LOOSE, refresh_frames=0)))
    stream.push(SCENE)
    take = stream._opening._open

    def told_otherwise(frame, suspect, hinted=False, known=False):
        if known:
            stream._opening._words[CHANGED] = 17
        take(frame, suspect, hinted, known)

    stream._opening._open = told_otherwise
    assert stream.push(255 - SCENE).changed_tiles == 17


@pytest.mark.parametrize(
    ("hint", "got"), [(np.zeros((6, 8), np.uint8), r"uint8\[6, 8\]"), (np.zeros((8, 6), bool), r"bool\[8, 6\]")]
)
def test_a_wrong_hint_loses_nothing(hint, got):
    stream = Session(small_network())
    stream.push(SCENE)
    with pytest.raises(ValueError, match=rf"expected tiles bool\[6, 8\], got {got}"):
        stream.push(SCENE, None, hint)
    assert stream.push(SCENE).decision == "reuse"


def test_streams_together_take_hints_of_their_own(plan):
    several = replace(plan, together=3)
    ours, theirs = ([Session(several) for _ in range(3)] for _ in range(2))
    frames = [np.roll(SCENE, step, axis=1) for step in range(3)]
    push_together(ours, frames)
    for session, frame in zip(theirs, frames, strict=True):
        session.push(frame)
    frames = [frame.copy() for frame in frames]
    frames[1][16:24, 8:16] ^= 255
    hints = [NOWHERE, NOWHERE.copy(), None]
    hints[1][2, 1] = True
    found = push_together(ours, frames, None, hints)
    for outcome, session, frame in zip(found, theirs, frames, strict=True):
        assert isinstance(outcome, FrameResult)
        assert_same(outcome, session.push(frame))
    with pytest.raises(ValueError, match=r"got 3, 3 and 1"):
        push_together(ours, frames, None, [None])
