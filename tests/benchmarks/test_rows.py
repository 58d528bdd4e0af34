"""Bands of rows: every pixel once, after what it reads, with the bits of the order map by map."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rows import LARGEST_STRIDE, in_bands, map_by_map
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from cache.state import workspace
from kernels.layout import Test
from kernels.simd import STORE
from tests.cache.onnx_models import build, node, weights


@pytest.fixture(scope="module")
def plan():
    constants = {"a": weights(16, 3, 3, 3), "b": weights(16, 16, 3, 3) / 12, "c": weights(8, 16, 1, 1)}
    nodes = [
        node("Conv", "x a", "p", pads=[1, 1, 1, 1], strides=[2, 2]), node("Conv", "p b", "q", pads=[1, 1, 1, 1]),
        node("Add", "p q", "r"), node("MaxPool", "r", "s", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "s c", "y"),
    ]  # fmt: skip
    return Plan.compile(load_model(build(nodes, constants, shape=(1, 3, 70, 50), outputs=["y", "q"])))


def computed(plan, calls):
    session = Session(plan, exact=True)
    session.push_tensor(np.random.default_rng(1).standard_normal(plan.input_shape).astype(np.float32))
    session._state.borrow(workspace(), plan.needs)
    for planned in plan.steps:
        plan.maps[planned.step.target].view(session._state.arena)[...] = np.nan
    for way, pixels in calls:
        session._state.compute(way, pixels, Test(STORE, 0.0, way.grain))
    return session._state.arena.tobytes()


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_bands_have_the_bits_of_whole_maps(plan, count):
    assert computed(plan, in_bands(plan, count)) == computed(plan, map_by_map(plan))


def test_every_pixel_comes_once_and_in_bands(plan):
    assert all(plan.maps[s.step.target].stride <= LARGEST_STRIDE for s in plan.steps)
    whole, cut = map_by_map(plan), in_bands(plan, 4)
    assert len(cut) > len(whole)
    for way, pixels in whole:
        found = np.concatenate([p for w, p in cut if w is way])
        assert np.array_equal(found, pixels)
