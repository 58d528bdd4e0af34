"""Ray-casting: depths are those of the geometry, near things hide far ones."""

import numpy as np

from service.scene.camera import Camera
from service.scene.place import Box, Room
from service.scene.room import render

CAMERA = Camera(160, 96, 120.0, 1.5, 0.0)
BARE = Room(
    depth_m=6.0,
    half_width_m=4.0,
    ceiling_m=2.8,
    floor=("carpet", (100, 100, 100)),
    wall=("plain", (200, 200, 200)),
    boxes=(),
    plants=(),
    lamps=((0.0, 2.5, 3.0, 0.5),),
    ambient=0.6,
    warmth=0.0,
    seed=1,
)


def test_depths_of_an_empty_room():
    found = render(BARE, CAMERA)
    assert found.image.shape == (96, 160, 3)
    assert found.depth.shape == (96, 160)
    assert 0 <= found.image.min() <= found.image.max() <= 255
    np.testing.assert_allclose(found.depth[48, 80], 6.0, rtol=1e-5)
    np.testing.assert_allclose(found.depth[95, 80], 1.5 * 120 / 47.25, rtol=0.02)  # the floor
    assert found.depth[48, 0] == 6.0  # the wall's end lies outside this picture


def test_a_box_hides_what_is_behind_it_and_darkens_the_floor_beside_it():
    box = Box((-0.5, 0.0, 4.5), (0.5, 1.8, 5.0), (20.0, 40.0, 200.0))
    bare, found = render(BARE, CAMERA), render(Room(**{**vars(BARE), "boxes": (box,)}), CAMERA)
    np.testing.assert_allclose(found.depth[48, 80], 4.5, rtol=1e-5)
    assert found.depth[48, 20] == bare.depth[48, 20] == 6.0
    blue, _, red = found.image[48, 80]
    assert red > 3 * blue
    before_its_foot = round(48 + 1.5 / 4.45 * 120)
    assert found.image[before_its_foot, 80].sum() < 0.9 * bare.image[before_its_foot, 80].sum()


def test_a_plant_is_green_and_at_its_place():
    found = render(Room(**{**vars(BARE), "plants": ((0.0, 4.0, 1.6),)}), CAMERA)
    leaves = np.isclose(found.depth, 4.0, atol=0.01)
    assert leaves.sum() > 50
    blue, green, red = found.image[leaves].mean(axis=0)
    assert green > max(blue, red)
