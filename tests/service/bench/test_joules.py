"""Energy by hand: products, bytes of small and of large arrays, and what a frame that did little costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.steps import Effort
from kernels.record import Entry
from service.bench import joules
from service.bench.im2col_network import Im2colNetwork
from service.bench.joules import (
    CACHE_PJ,
    HALF_MAC_PJ,
    MAC_PJ,
    MEMORY_PJ,
    computed_pj,
    im2col_joules,
    moved_pj,
    plan_cost,
    product_pj,
)
from tests.cache.onnx_models import build, node, weights


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


def with_effort(planned, effort):
    """The step as if its method did this for a whole map."""
    return replace(planned, step=replace(planned.step, method=replace(planned.step.method, effort=effort)))


def test_a_method_that_tells_its_effort_is_counted_by_it(plan):
    """A small array read three times and a large one once, in the place of the step's own products."""
    effort = Effort(5000.0, ((100, 3), (2 << 20, 1)))
    steps = (with_effort(plan.steps[0], effort), *plan.steps[1:])
    found, plain = plan_cost(replace(plan, steps=steps)), plan_cost(plan)
    wanted = 5000 * MAC_PJ + 300 * CACHE_PJ + (2 << 20) * MEMORY_PJ
    assert computed_pj(steps[0].step.method, 7) == pytest.approx(wanted)
    assert computed_pj(plan.steps[0].step.method, 7) == 7 * MAC_PJ
    whole = plan.steps[0].step.macs * MAC_PJ
    assert found.work[0] - plain.work[0] == pytest.approx(wanted - whole)
    assert found.partial[0] - plain.partial[0] == pytest.approx(wanted - whole)
    assert np.array_equal(found.work[1:], plain.work[1:])


@pytest.mark.parametrize(("group", "taps"), [(1, 9), (16, 31)])
def test_transforms_are_estimated_by_tiles_and_spectra(group, taps):
    pytest.importorskip("rocket_fft", reason="needs the extra `fft`")
    made = node("Conv", "x w", "y", "conv", pads=[taps // 2] * 4, group=group)
    data = load_model(build([made], {"w": weights(16, 16 // group, taps, taps)}, shape=(1, 16, 40, 40)))
    fast, direct = (Plan.compile(data, policy=Policy(fft_kept=kept)) for kept in (1.0, 0.0))
    assert (fast.fft_nodes, direct.fft_nodes) == (1, 0)
    conv = len(fast.steps) - 1
    whole, tenth, nothing = np.ones(len(fast.steps)), np.full(len(fast.steps), 0.1), np.zeros(len(fast.steps))
    costs = [plan_cost(plan, exact=True) for plan in (fast, direct)]
    effort = fast.steps[conv].step.method.effort
    assert effort.macs < fast.steps[conv].step.macs / 2
    assert costs[0].work[conv] > effort.macs * MAC_PJ
    assert costs[0].weights[conv] > costs[1].weights[conv], "spectra are larger than filters"
    assert 0 < costs[0].joules(nothing) < costs[0].joules(tenth) < costs[0].joules(whole)
    listed = plan_cost(fast)
    assert listed.joules(whole) == costs[0].joules(whole)
    assert listed.partial[conv] == max(costs[0].work[conv], costs[1].work[conv])


def test_im2col_pays_for_its_matrix(plan):
    network = Im2colNetwork(plan)
    macs = sum(part.product.macs for part in network.parts if part.product)
    matrices = sum(part.product.extra_bytes for part in network.parts if part.product)
    assert macs == plan.total_macs
    assert im2col_joules(network) * 1e12 > macs * MAC_PJ + 2 * matrices * CACHE_PJ
