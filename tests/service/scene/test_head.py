"""A head from all sides: the face towards us, the hair away from us, sizes as asked."""

import numpy as np
import pytest

from service.scene.face import RADII
from service.scene.head import Pose, draw_shell
from service.scene.paint import Patch

LIGHT = np.array([0.0, -0.6, -0.8], np.float32)
FACING = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], np.float32)
AWAY = np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1]], np.float32)


def two_sided():
    """A texture that is red in front and blue behind."""
    texture = np.zeros((64, 128, 3), np.float32)
    texture[:, 32:96] = (0, 0, 200)
    texture[:, :32] = texture[:, 96:] = (200, 0, 0)
    return [texture]


def draw(turn, scale=400.0, levels=None):
    patch = Patch.empty(0, 0, 160, 160)
    draw_shell(patch, Pose(80.0, 80.0, scale, turn), levels or two_sided(), LIGHT, 1.0, 0.0)
    return patch


def test_the_front_is_seen_from_the_front():
    assert draw(FACING).colour[80, 80, 2] > 100
    assert draw(FACING).colour[80, 80, 0] < 5
    assert draw(AWAY).colour[80, 80, 0] > 100


def test_it_is_as_high_as_asked_and_narrower_at_the_chin():
    cover = draw(FACING).cover
    rows = np.flatnonzero(cover.max(axis=1) > 0.5)
    assert len(rows) == pytest.approx(2 * float(RADII[1]) * 400, abs=3)
    widths = cover.sum(axis=1)
    assert widths[80] == pytest.approx(2 * float(RADII[0]) * 400, abs=3)
    assert widths[80 + 35] < 0.9 * widths[80 - 35]


def test_cover_of_a_texture_is_that_of_the_picture():
    texture = np.full((64, 128, 4), 100, np.float32)
    texture[:32, :, 3], texture[32:, :, 3] = 1, 0
    cover = draw(FACING, levels=[texture]).cover
    assert cover[60, 80] == 1
    assert cover[100, 80] == 0


def test_the_upper_side_is_lit_from_above():
    grey = [np.full((64, 128, 3), 120, np.float32)]
    colour = draw(FACING, levels=grey).colour
    assert colour[50, 80].sum() > 1.1 * colour[115, 80].sum()


def test_a_head_outside_the_patch_draws_nothing():
    patch = Patch.empty(0, 0, 20, 20)
    draw_shell(patch, Pose(300.0, 300.0, 100.0, FACING), two_sided(), LIGHT, 1.0, 0.0)
    assert patch.cover.sum() == 0
