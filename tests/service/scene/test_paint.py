"""Shapes on a patch: where they cover, how soft their edges are, which side is lit."""

import numpy as np
import pytest

from service.scene.paint import Cloth, Patch, Profile, limb, loft

CLOTH = Cloth(np.array([50, 100, 150], np.float32), 0.0, np.zeros((256, 256), np.float32))
FROM_LEFT = np.array([-0.7, 0.0, -0.7], np.float32)


def place(x, y):
    return np.array([x, y, 3.0], np.float32)


def test_a_limb_covers_its_capsule():
    patch = Patch.empty(0, 0, 60, 40)
    limb(patch, place(15, 20), place(45, 20), 8, 8, CLOTH, FROM_LEFT)
    area = np.pi * 8 * 8 + 30 * 16
    assert patch.cover.sum() == pytest.approx(area, rel=0.02)
    assert patch.cover[20, 30] == 1
    assert patch.cover[20, 4] == 0
    assert 0 < patch.cover[11:13, 30].sum() < 2  # an edge of about a pixel


def test_what_faces_the_light_is_brighter():
    patch = Patch.empty(0, 0, 60, 60)
    limb(patch, place(30, 10), place(30, 50), 12, 12, CLOTH, FROM_LEFT)
    assert patch.colour[30, 22].sum() > 1.3 * patch.colour[30, 38].sum()


def test_later_shapes_cover_earlier_ones_and_a_patch_may_lie_anywhere():
    patch = Patch.empty(100, 200, 140, 240)
    red = Cloth(np.array([0, 0, 200], np.float32), 0.0, CLOTH.pattern)
    limb(patch, place(120, 205), place(120, 235), 9, 9, CLOTH, FROM_LEFT)
    limb(patch, place(105, 220), place(135, 220), 5, 5, red, FROM_LEFT)
    assert patch.colour[20, 20, 0] < 1
    assert patch.colour[20, 20, 2] > 50
    assert patch.cover.max() <= 1 + 1e-6


def test_outside_of_the_patch_nothing_happens():
    patch = Patch.empty(0, 0, 20, 20)
    limb(patch, place(100, 100), place(120, 100), 5, 5, CLOTH, FROM_LEFT)
    loft(patch, place(100, 100), place(100, 60), Profile((0, 1), (0.2, 0.1)), 50, CLOTH, FROM_LEFT)
    assert patch.cover.sum() == 0


def test_a_loft_is_as_wide_as_its_profile():
    patch = Patch.empty(0, 0, 100, 120)
    loft(patch, place(50, 110), place(50, 10), Profile((0, 0.5, 1), (0.3, 0.3, 0.1)), 100, CLOTH, FROM_LEFT)
    widths = patch.cover.sum(axis=1)
    assert widths[90] == pytest.approx(60, abs=1.5)
    assert widths[20] == pytest.approx(2 * 100 * (0.1 + 0.2 * 0.2), abs=3)
    assert widths[5] == 0


def test_folds_and_stripes_change_the_tone():
    pattern = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    along, across = (np.linspace(0, 0.5, 40, dtype=np.float32)[:, None] + np.zeros((1, 30), np.float32) for _ in "ab")
    assert Cloth(CLOTH.colour, 0.0, pattern).tone(along, across, 200).std() == 0
    folds = Cloth(CLOTH.colour, 0.2, pattern).tone(along, across, 200)
    striped = Cloth(CLOTH.colour, 0.2, pattern, 0.5, 12.0).tone(along, across, 200)
    assert folds.std() > 0.05
    assert striped.min() < folds.min()
