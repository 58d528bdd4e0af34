"""Bodies: proportions, feet on the ground, and a gait that repeats."""

from dataclasses import replace

import numpy as np
import pytest

from service.scene.people import Stance, joints, make_person, turned

PERSON = make_person(np.random.default_rng(2))
STANDING = Stance(1.0, 4.0, 0.7)


def test_people_differ_and_are_the_same_for_the_same_seed():
    again = make_person(np.random.default_rng(2))
    assert (again.stature, again.build, again.face.seed) == (PERSON.stature, PERSON.build, PERSON.face.seed)
    statures = [make_person(np.random.default_rng(seed)).stature for seed in range(40)]
    assert 1.4 < min(statures) < 1.65 < max(statures) < 2.05


def test_a_standing_body_has_its_stature_and_stands_on_the_ground():
    at = joints(PERSON, STANDING)
    assert at["head"][1] + 0.118 == pytest.approx(PERSON.stature, abs=0.06)
    assert min(at["ankle_l"][1], at["ankle_r"][1]) == pytest.approx(0.045 * PERSON.stature, abs=1e-4)
    assert np.linalg.norm(at["pelvis"][[0, 2]] - [1, 4]) < 1e-5


@pytest.mark.parametrize("phase", np.linspace(0, 6, 9))
def test_limbs_keep_their_length_while_walking(phase):
    walking = replace(STANDING, phase=float(phase), pace=1.0)
    still, moving = joints(PERSON, STANDING), joints(PERSON, walking)
    for first, second in (("knee_l", "ankle_l"), ("shoulder_r", "elbow_r"), ("pelvis", "neck")):
        there = np.linalg.norm(still[first] - still[second])
        assert np.linalg.norm(moving[first] - moving[second]) == pytest.approx(there, rel=0.1)
    assert min(moving["ankle_l"][1], moving["ankle_r"][1]) == pytest.approx(0.045 * PERSON.stature, abs=1e-4)


def test_legs_swing_in_turn_and_the_gait_repeats():
    def ahead(phase):
        at = joints(PERSON, Stance(0, 4, 0.0, phase, 1.0))
        return float(at["ankle_l"][2] - at["ankle_r"][2])

    assert ahead(np.pi / 2) > 0.4
    assert ahead(3 * np.pi / 2) < -0.4
    assert ahead(1.0) == pytest.approx(ahead(1.0 + 2 * np.pi), abs=1e-4)


def test_a_turned_body_looks_where_it_is_told():
    np.testing.assert_allclose(turned(0.0), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(turned(np.pi / 2)[:, 2], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(turned(0.3) @ turned(0.3).T, np.eye(3), atol=1e-6)
