"""A drawn person: where the geometry puts them, with a face when they look at us."""

import numpy as np
import pytest

from service.scene.camera import Camera
from service.scene.figure import draw_person
from service.scene.people import Stance, make_person

CAMERA = Camera(640, 384, 500.0, 1.5, 0.05)
LIGHT = np.array([0.3, -0.6, -0.74], np.float32)
PERSON = make_person(np.random.default_rng(2))


def draw(x, z, heading, person=PERSON, **stance):
    return draw_person(person, Stance(x, z, heading, **stance), CAMERA, LIGHT)


def extent(drawn):
    rows, columns = np.nonzero(drawn.patch.cover > 0.5)
    left, top = drawn.patch.left + columns.min(), drawn.patch.top + rows.min()
    return left, top, drawn.patch.left + columns.max() + 1, drawn.patch.top + rows.max() + 1


def test_is_as_high_as_the_camera_sees_the_stature():
    left, top, right, bottom = extent(draw(0.0, 5.0, np.pi))
    feet, crown = CAMERA.project(np.array([[0, 0, 5], [0, PERSON.stature, 5]], np.float32))
    assert top == pytest.approx(crown[1], abs=8)
    assert bottom == pytest.approx(feet[1], abs=14)
    assert (left + right) / 2 == pytest.approx(320, abs=12)
    assert 0.2 < (right - left) / (bottom - top) < 0.6


def test_the_face_is_seen_from_the_front_and_from_the_side_but_not_from_behind():
    drawn = draw(0.0, 1.5, np.pi)
    assert drawn.face is not None
    left, top, right, bottom = drawn.face
    x0, y0, x1, _ = extent(drawn)
    assert x0 < left < right < x1
    assert y0 < top < bottom < y0 + 0.26 / 1.5 * 500
    assert 0.6 < (right - left) / (bottom - top) < 1.0
    side = draw(0.0, 1.5, np.pi / 2)
    assert side.face is not None
    assert side.face[2] - side.face[0] < right - left
    assert draw(0.0, 1.5, 0.0).face is None


def test_patches_lie_in_the_picture_and_people_outside_are_not_drawn():
    drawn = draw(1.4, 2.2, np.pi / 2)
    h, w = drawn.patch.cover.shape
    assert 0 <= drawn.patch.left <= drawn.patch.left + w <= 640
    assert 0 <= drawn.patch.top <= drawn.patch.top + h <= 384
    assert draw(9.0, 3.0, 0.0) is None


@pytest.mark.parametrize("seed", range(16))
def test_everybody_can_be_drawn_from_all_sides(seed):
    person = make_person(np.random.default_rng(seed))
    for heading in (0.0, 1.0, 2.0, 3.1, 4.2):
        drawn = draw(0.2, 2.5, heading, person, phase=heading, pace=1.0, gesture=0.5, talk=True)
        assert np.isfinite(drawn.patch.colour).all()
        assert 0 <= drawn.patch.cover.min() <= drawn.patch.cover.max() <= 1 + 1e-5
        assert (drawn.patch.cover > 0.5).sum() > 2000
        assert drawn.patch.colour.max() < 400
