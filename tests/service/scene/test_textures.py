"""Surfaces: every kind gives a colour for every point, and none is flat."""

from dataclasses import replace

import numpy as np
import pytest

from service.scene.camera import smooth_noise
from service.scene.decor import make_room, make_street
from service.scene.place import Box
from service.scene.textures import PAINTS, facade_and_sky, ground, wall

NOISE = smooth_noise(np.random.default_rng(0), 256, 256)
ROOM = make_room(np.random.default_rng(1), 1)
rng = np.random.default_rng(2)
U, V = rng.uniform(0, 1.2, 3000).astype(np.float32), rng.uniform(0, 1.9, 3000).astype(np.float32)


def check(colours):
    assert colours.shape == (3000, 3)
    assert np.isfinite(colours).all()
    assert colours.min() >= 0
    assert colours.std(axis=0).min() > 0.5


@pytest.mark.parametrize("kind", ["planks", "tiles", "paving", "carpet", "rug"])
def test_floors(kind):
    check(ground(NOISE, replace(ROOM, floor=(kind, (100.0, 120.0, 140.0))), (U - 0.6) * 5, 2 + V * 3))


@pytest.mark.parametrize("kind", ["plain", "stripes", "brick", "panels"])
def test_walls(kind):
    check(wall(NOISE, replace(ROOM, wall=(kind, (180.0, 190.0, 200.0))), U * 4, V * 1.4))


@pytest.mark.parametrize("paint", list(PAINTS))
def test_furniture(paint):
    check(PAINTS[paint](NOISE, Box((0, 0, 0), (1.2, 1.9, 0.4), (60, 90, 130), paint, 3), U, V))


def test_houses_have_windows_below_and_sky_above():
    street = make_street(np.random.default_rng(3), 3)
    check(facade_and_sky(NOISE, street, U * 20 - 12, V * 3))
    sky = facade_and_sky(NOISE, street, U * 20 - 12, V + 12)
    assert sky.mean() > 170
