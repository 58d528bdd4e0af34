"""The estimate finds motions that maps can follow, in noise too, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from cache.change import TileGrid
from cache.motion import find_motion, mark_strips, move_frame, possible_shifts, slide

GRID = TileGrid(192, 256, 8)
SHIFTS = possible_shifts(192, 256, (32, 32))
LIMITS = GRID.limits(4.0, 3)


def picture(seed: int = 0) -> np.ndarray:
    """Something uneven, larger than a frame."""
    coarse = np.random.default_rng(seed).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))


def view(at: np.ndarray, top: int, left: int, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    part = at[top : top + GRID.height, left : left + GRID.width]
    noisy = part + np.random.default_rng(seed).normal(0, noise, part.shape) if noise else part
    return np.ascontiguousarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def look(frame: np.ndarray, reference: np.ndarray, cost_tiles: float = 0.0):
    return find_motion(frame, reference, np.ones(GRID.shape, np.uint8), GRID, LIMITS, SHIFTS, cost_tiles)


def test_shifts_are_multiples_that_leave_half_of_the_picture():
    assert (SHIFTS % 32 == 0).all()
    assert (SHIFTS != 0).any(axis=1).all()
    overlap = (1 - np.abs(SHIFTS[:, 0]) / 192) * (1 - np.abs(SHIFTS[:, 1]) / 256)
    assert (overlap >= 0.5).all()
    assert len(np.unique(SHIFTS, axis=0)) == len(SHIFTS)
    assert len(possible_shifts(40, 40, (32, 32))) == 0, "a picture too small for a step"


@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize(("down", "right"), [(32, 0), (-32, 0), (0, 64), (0, -96), (32, -32), (-64, 32)])
def test_motions_are_found(down, right, noise):
    at = picture()
    frame, reference = view(at, 96, 128, noise, 1), view(at, 96 + down, 128 + right, noise, 2)
    found = look(frame, reference)
    assert found is not None
    assert (found.down, found.right) == (down, right)
    strip = np.zeros(GRID.shape, np.uint8)
    mark_strips(strip, GRID, down, right)
    came = np.kron(strip, np.ones((8, 8), np.uint8)).astype(bool)
    assert np.array_equal(found.reference[came], frame[came])
    inside = np.roll(reference, (down, right), (0, 1))
    assert np.array_equal(found.reference[~came], inside[~came])


@pytest.mark.parametrize(("down", "right"), [(31, 0), (0, 33), (16, 16), (5, 0)])
def test_other_motions_are_not(down, right):
    at = picture()
    assert look(view(at, 96, 128), view(at, 96 + down, 128 + right)) is None


def test_another_picture_is_none():
    assert look(view(picture(0), 0, 0), view(picture(1), 0, 0)) is None
    still = view(picture(), 0, 0)
    assert find_motion(still, still, np.zeros(GRID.shape, np.uint8), GRID, LIMITS, SHIFTS) is None


def test_a_move_must_be_worth_what_it_costs():
    at, tiles = picture(), GRID.shape[0] * GRID.shape[1]
    frame, reference = view(at, 96, 128), view(at, 128, 128)
    assert look(frame, reference, cost_tiles=0.3 * tiles) is not None
    assert look(frame, reference, cost_tiles=0.4 * tiles) is None, "a sixth came in, and half is to be saved"


def test_frames_and_rows_are_moved_in_place():
    rng = np.random.default_rng(3)
    for by in (-7, -1, 0, 1, 9, 40):
        values = rng.integers(0, 100, 30).astype(np.int32)
        place = values.copy()
        slide(place, by)
        kept = slice(max(by, 0), min(30 + by, 30))
        assert np.array_equal(place[kept], np.roll(values, by)[kept])
    reference, frame = (rng.integers(0, 256, (12, 10, 3), dtype=np.uint8) for _ in range(2))
    moved = reference.copy()
    move_frame(moved, frame, 3, -2)
    assert np.array_equal(moved[3:, :-2], reference[:-3, 2:])
    assert np.array_equal(moved[:3], frame[:3])
    assert np.array_equal(moved[:, -2:], frame[:, -2:])
