"""Factors follow gain and cost."""

from __future__ import annotations

import numpy as np
import pytest

from service.calibration.allocate import BOUNDS, factors


def test_steps_that_are_alike_keep_their_thresholds():
    assert factors(np.full(5, 0.01), np.full(5, 0.3)) == pytest.approx(np.ones(5))


def test_more_gain_or_less_cost_means_a_looser_threshold():
    found = factors(np.array([0.01, 0.02, 0.01]), np.array([0.1, 0.1, 0.4]))
    assert found[1] > found[0] > found[2]
    assert (np.array([0.1, 0.1, 0.4]) * found**2).sum() == pytest.approx(0.6), "damage is what it was"


def test_noise_does_not_run_away():
    found = factors(np.array([0.01, 0.01, 0.5, -0.1]), np.array([0.1, -0.2, 1e-9, 5.0]))
    assert np.all((found >= BOUNDS[0]) & (found <= BOUNDS[1]))


def test_nothing_measured_changes_nothing():
    assert factors(np.zeros(3), np.zeros(3)).tolist() == [1.0, 1.0, 1.0]
