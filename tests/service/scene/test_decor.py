"""Furnishing: different every time, and never in the people's way."""

import numpy as np

from service.scene.decor import make_camera, make_room, make_street


def test_the_same_seed_gives_the_same_room_and_another_gives_another():
    assert make_room(np.random.default_rng(3), 3) == make_room(np.random.default_rng(3), 3)
    assert make_room(np.random.default_rng(3), 3) != make_room(np.random.default_rng(4), 4)
    assert make_street(np.random.default_rng(3), 3) == make_street(np.random.default_rng(3), 3)


def test_furniture_stands_inside_and_leaves_the_middle_free():
    for seed in range(12):
        room = make_room(np.random.default_rng(seed), seed)
        assert room.half_width_m is not None
        assert room.ceiling_m is not None
        for box in room.boxes:
            assert all(low < high for low, high in zip(box.low, box.high, strict=True))
            assert box.high[2] <= room.depth_m + 1e-6
            assert box.high[1] <= room.ceiling_m
            along_a_wall = box.high[2] > room.depth_m - 2.3 or max(abs(box.low[0]), abs(box.high[0])) > 2.5
            foreground = box.high[2] < 2.2
            assert along_a_wall or foreground, box


def test_a_street_has_no_walls_and_nothing_near():
    street = make_street(np.random.default_rng(0), 0)
    assert (street.half_width_m, street.ceiling_m) == (None, None)
    assert min(box.low[2] for box in street.boxes) > 6


def test_cameras_hang_at_the_height_of_eyes_or_higher():
    for seed in range(20):
        camera = make_camera(np.random.default_rng(seed), (640, 384), street=seed % 2 == 0)
        assert 1.2 < camera.height_m < 2.7
        assert 0 < camera.pitch < 0.3
        assert (camera.width, camera.height) == (640, 384)
