"""The camera's geometry, and the noise that textures are made of."""

import numpy as np
import pytest

from service.scene.camera import Camera, sample, smooth_noise, smoothstep

CAMERA = Camera(640, 384, 500.0, 1.5, 0.1)


def test_a_point_straight_ahead_is_in_the_middle():
    ahead = np.array([[0, 1.5 - np.sin(0.1) * 4, np.cos(0.1) * 4]], np.float32)
    np.testing.assert_allclose(CAMERA.project(ahead), [[320, 192, 4]], atol=1e-3)


def test_right_is_right_up_is_up_and_far_is_small():
    points = np.array([[1, 1, 4], [0, 2, 4], [1, 1, 8]], np.float32)
    right, high, far = CAMERA.project(points)
    assert right[0] > 320 > right[0] - 320
    assert high[1] < right[1]
    assert far[0] - 320 == pytest.approx((right[0] - 320) / 2, rel=0.05)


def test_the_edge_of_the_picture_is_where_half_width_says():
    level = Camera(640, 384, 500.0, 1.5, 0.0)
    edge = np.array([[level.half_width(3.0), 1.5, 3.0]], np.float32)
    np.testing.assert_allclose(level.project(edge)[0, 0], 640, atol=1e-3)


def test_twice_the_pixels_show_the_same():
    points = np.random.default_rng(0).uniform([-2, 0, 2], [2, 2, 8], (20, 3)).astype(np.float32)
    np.testing.assert_allclose(CAMERA.scaled(2).project(points)[:, :2], CAMERA.project(points)[:, :2] * 2, rtol=1e-5)


def test_noise_has_no_seam_and_a_mean_of_nothing():
    noise = smooth_noise(np.random.default_rng(1), 128, 256)
    assert noise.shape == (128, 256)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.3
    steps = np.abs(np.diff(noise, axis=1))
    assert np.abs(noise[:, 0] - noise[:, -1]).max() < 4 * steps.max()


def test_sampling_repeats_and_takes_any_number_of_points():
    texture = np.arange(64, dtype=np.float32).reshape(8, 8)
    u = np.linspace(-1, 2, 40_001, dtype=np.float32)
    v = np.full_like(u, 0.25)
    found = sample(texture, u, v)
    assert found.shape == u.shape
    np.testing.assert_allclose(found[0], texture[2, 0])
    np.testing.assert_allclose(sample(texture, u + 1, v)[:100], found[:100], atol=0.02)


def test_a_step_is_flat_at_both_ends():
    np.testing.assert_allclose(smoothstep(1, 3, np.array([0.0, 1, 2, 3, 9])), [0, 0, 0.5, 1, 1])
