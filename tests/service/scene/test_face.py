"""What is painted on a head: features where they belong, and smaller levels that agree."""

from itertools import pairwise

import numpy as np
import pytest

from service.scene.face import RADII
from service.scene.people import make_person

FACE = make_person(np.random.default_rng(5)).face


def at(image, x_m, y_m):
    """The mean colour around a point of the frontal view."""
    lon, y, x = FACE.maps
    near = (np.hypot(x - x_m, y - y_m) < 0.003) & (np.abs(lon) < 1.5)
    assert near.any()
    return image[near].mean(axis=0)


def test_the_maps_cover_the_head():
    lon, y, x = FACE.maps
    assert lon.shape == y.shape == x.shape == (256, 512)
    assert y.max() == pytest.approx(RADII[1], rel=0.01)
    front = np.abs(lon) < 1.5
    assert np.abs(x[front]).max() == pytest.approx(RADII[0], rel=0.02)


def test_pupils_and_brows_are_darker_than_cheeks():
    skin = FACE.skins(False, False)[0]
    cheek = at(skin, 0.04, -0.03).sum()
    assert at(skin, FACE.eye_gap, 0.0).sum() < 0.8 * cheek
    assert at(skin, FACE.eye_gap, 0.024).sum() < 0.9 * cheek


def test_a_blink_and_a_word_change_only_eyes_and_mouth():
    calm, blink, talk = FACE.skins(False, False)[0], FACE.skins(True, False)[0], FACE.skins(False, True)[0]
    _, y, _ = FACE.maps
    changed = np.abs(calm - blink).max(axis=2) > 2
    assert changed.any()
    assert np.abs(y[changed]).max() < 0.015
    changed = np.abs(calm - talk).max(axis=2) > 2
    assert changed.any()
    assert y[changed].max() < -0.05
    assert FACE.skins(False, False)[0] is calm, "painted once"


def test_levels_halve_and_keep_the_mean():
    levels = FACE.skins(False, False)
    for large, small in pairwise(levels):
        assert (small.shape[0], small.shape[1]) == (large.shape[0] // 2, large.shape[1] // 2)
        assert small.mean() == pytest.approx(large.mean(), rel=0.01)


def test_hair_covers_the_top_and_leaves_the_face_free():
    hair = FACE.hairs[0]
    assert hair.shape == (256, 512, 4)
    assert at(hair, 0.0, 0.105)[3] > 0.9 or FACE.bald
    assert at(hair, 0.0, -0.03)[3] < 0.05
