"""Energy by hand: products, bytes of small and of large arrays, and what a frame that did little costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.plan import Plan
from kernels.record import Entry
from service.bench import joules
from service.bench.im2col_network import Im2colNetwork
from service.bench.joules import (
    CACHE_PJ,
    HALF_MAC_PJ,
    MAC_PJ,
    MEMORY_PJ,
    im2col_joules,
    moved_pj,
    plan_cost,
    product_pj,
)


@pytest.fixture
def plan(opened):
    return Plan.compile(opened.model, (1, 3, 64, 96), opened.outputs, opened.spec.normalisation())


def test_large_arrays_come_from_memory():
    assert moved_pj([100, 1 << 20]) == (100 + (1 << 20)) * CACHE_PJ
    assert moved_pj([(1 << 20) + 1]) == ((1 << 20) + 1) * MEMORY_PJ


def test_a_whole_frame_costs_products_maps_and_weights(plan):
    cost = plan_cost(plan)
    everything, nothing = np.ones(len(plan.steps)), np.zeros(len(plan.steps))
    assert cost.joules(nothing) == pytest.approx(2 * 64 * 96 * 3 * CACHE_PJ * 1e-12)
    least = plan.total_macs * MAC_PJ * joules.WINOGRAD * 1e-12
    assert cost.joules(everything) > least + cost.joules(nothing)
    first = np.zeros(len(plan.steps))
    first[0] = 0.5
    half = plan.steps[0].step.macs * MAC_PJ / 2
    weights = plan.steps[0].step.method.weight_bytes * CACHE_PJ
    assert cost.joules(first) * 1e12 > half + weights
    first[0] = 1.0
    twice = plan_cost(plan).joules(first) - cost.joules(nothing) - weights * 1e-12
    first[0] = 0.5
    assert twice == pytest.approx(2 * (cost.joules(first) - cost.joules(nothing) - weights * 1e-12))


def named(planned, name):
    """The step as if computed by another entry."""

    def function():
        return 0

    function.__name__ = name
    return replace(planned, step=replace(planned.step, method=replace(planned.step.method, entry=Entry(function))))


def test_products_by_method(plan):
    direct = plan.steps[0]
    assert product_pj(named(direct, "convolution").step.method) == MAC_PJ
    assert product_pj(named(direct, "winograd_convolution").step.method) == MAC_PJ / 4
    assert product_pj(named(direct, "bfloat16_convolution").step.method) == HALF_MAC_PJ
    assert pytest.approx(1.1 + 0.9) == HALF_MAC_PJ, "bfloat16 products, float32 sums"


def test_partial_frames_cost_the_dearer_method(plan):
    """Short lists may be computed directly where the whole map is computed by Winograd's method."""
    first = named(plan.steps[0], "winograd_convolution")
    both = replace(first, step=replace(first.step, few=plan.steps[0].step.method))
    fast, mixed = (replace(plan, steps=(step, *plan.steps[1:])) for step in (first, both))
    whole, half = np.ones(len(plan.steps)), np.zeros(len(plan.steps))
    half[0] = 0.5
    assert plan_cost(mixed).joules(whole) == plan_cost(fast).joules(whole)
    more = plan_cost(mixed).joules(half) - plan_cost(fast).joules(half)
    assert more * 1e12 == pytest.approx(plan.steps[0].step.macs * 0.5 * MAC_PJ * 3 / 4)
    assert plan_cost(mixed, exact=True).joules(half) == plan_cost(fast).joules(half)


def test_transforms_are_not_estimated(plan):
    steps = (named(plan.steps[0], "fft_convolution"), *plan.steps[1:])
    assert plan_cost(replace(plan, steps=steps)) is None


def test_im2col_pays_for_its_matrix(plan):
    network = Im2colNetwork(plan)
    macs = sum(part.product.macs for part in network.parts if part.product)
    matrices = sum(part.product.extra_bytes for part in network.parts if part.product)
    assert macs == plan.total_macs
    assert im2col_joules(network) * 1e12 > macs * MAC_PJ + 2 * matrices * CACHE_PJ
