"""From what each step saves and costs to the threshold that it gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PROBE = 2.5
"""Factor on a step's threshold when its effect is measured."""
CAUTION = 0.6
"""Power that factors are taken to: what forty frames say of one step is half noise."""
BOUNDS = (1 / 3, 4.0)
LEAST_GAIN, LEAST_COST = 0.02, 0.15
"""Of the median step's: what is measured as less is taken for noise."""


def factors(gains: Floats, costs: Floats) -> Floats:
    """A factor for the threshold of each step, float64[steps], so that all together cost what they do now.

    gains : work saved by a probe, as a share of a dense frame. costs : damage done by it, in any unit.

    Damage grows with the square of a threshold, and steps' damages add; the work saved grows with its logarithm. Least
    work for a given damage then asks for factors with factor^2 proportional to gain / cost (the derivatives by the
    logarithm of each factor must be in one ratio: Lagrange).
    """
    floor_gain, floor_cost = LEAST_GAIN * np.median(gains), LEAST_COST * np.median(costs)
    if not (floor_gain > 0 and floor_cost > 0):
        return np.ones_like(gains)
    gains, costs = np.maximum(gains, floor_gain), np.maximum(costs, floor_cost)
    found: Floats = (gains / costs) ** (CAUTION / 2)
    same_cost = np.sqrt(costs.sum() / (costs * found**2).sum())
    bounded: Floats = np.clip(found * same_cost, *BOUNDS)
    return bounded
