"""The script: people come from outside, go outside, and stand still in between."""

from itertools import pairwise

import numpy as np
import pytest

from service.scene.decor import make_camera, make_room
from service.scene.people import make_person
from service.scene.script import Leg, Role, write_script

ROLE = Role(
    make_person(np.random.default_rng(0)),
    begins=2.0,
    legs=(
        Leg((-2.0, 4.0), (0.0, 4.0), 2.0),
        Leg((0.0, 4.0), (0.0, 4.0), 3.0, face=np.pi),
        Leg((0.0, 4.0), (2.0, 4.0), 2.0),
    ),
    phase=0.0,
)


def test_a_role_begins_walks_stands_and_ends():
    assert ROLE.stance(1.9) is None
    assert ROLE.stance(9.0) is None
    assert (ROLE.stance(3.0).x, ROLE.stance(3.0).z) == (-1.0, 4.0)
    assert ROLE.stance(3.0).heading == pytest.approx(np.pi / 2)
    assert (ROLE.stance(3.0).pace, ROLE.stance(5.5).pace) == (1.0, 0.0)
    assert ROLE.stance(5.5).heading == pytest.approx(np.pi)
    assert ROLE.stance(5.0) == ROLE.stance(6.0), "standing is still"


def test_movements_have_no_jumps():
    before = None
    for step in range(int(6.9 * 50)):
        now = ROLE.stance(2.0 + step / 50)
        if before is not None:
            assert abs(now.x - before.x) < 0.03
            assert abs(np.sin((now.heading - before.heading) / 2)) < 0.12
            assert abs(now.pace - before.pace) < 0.1
        before = now


@pytest.mark.parametrize("seed", range(6))
def test_everybody_comes_and_goes_outside_of_the_picture(seed):
    rng = np.random.default_rng(seed)
    camera, room = make_camera(rng, (640, 384), False), make_room(rng, seed)
    script = write_script(rng, camera, room)
    assert len(script.roles) >= 5
    assert 20 < script.seconds < 120
    for role in script.roles:
        assert 0 <= role.begins < role.ends <= script.seconds + 1e-6
        for x, z in (role.legs[0].start, role.legs[-1].end):
            assert abs(x) > camera.half_width(z) + 0.3
        for leg, following in pairwise(role.legs):
            assert leg.end == following.start
