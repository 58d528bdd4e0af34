"""Transposed convolution by phases, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.conv_transpose import supports
from cache.plan import Plan, every_pixel
from cache.policy import Level, Policy
from cache.session import Session
from kernels.constants import TEST_BITS, TEST_RMS
from kernels.layout import Test
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights

CASES = {
    "stride 2": {"strides": [2, 2]},
    "output padding": {"strides": [3, 2], "output_padding": [2, 1], "pads": [1, 0, 1, 1]},
    "asymmetric pads": {"strides": [2, 2], "pads": [0, 1, 2, 0]},
    "dilations": {"strides": [2, 3], "dilations": [3, 2]},
    "stride 1": {"pads": [2, 0, 1, 1]},
    "phases that no tap reaches": {"strides": [5, 4], "output_padding": [4, 3]},
    "output shape": {"strides": [2, 2], "output_shape": [13, 16]},
}

# Weights, attributes, and the entry that is chosen for them, on maps of 7 x 9 px.
WAYS = {
    "one vector": ((20, 3, 2, 2), {"strides": [2, 2]}, "transposed_lanes"),
    "one vector, stride 4": ((5, 1, 4, 4), {"strides": [4, 4]}, "transposed_lanes"),
    "one vector, four taps": ((20, 4, 4, 4), {"strides": [2, 2]}, "transposed_lanes"),
    "too many channels": ((20, 18, 2, 2), {"strides": [2, 2]}, "transposed_cells"),
    "too many phases": ((5, 2, 4, 4), {"strides": [4, 4]}, "transposed_cells"),
    "phases that see different taps": ((20, 2, 3, 3), {"strides": [2, 2], "pads": [1, 1, 0, 0]}, "transposed_cells"),
    "phases without taps": ((5, 1, 2, 3), {"strides": [4, 4], "output_padding": [2, 1]}, "transposed_cells"),
    "groups": ((6, 2, 2, 2), {"strides": [2, 2], "group": 3}, "transposed_cells"),
    "broken cells": ((20, 3, 3, 2), {"strides": [2, 2]}, "transposed_convolution"),
    "two strides": ((20, 3, 2, 1), {"strides": [2, 1]}, "transposed_convolution"),
    "cells of 3 px": ((20, 1, 3, 3), {"strides": [3, 3]}, "transposed_convolution"),
}


def model(way: str, activation: str) -> bytes:
    shape, attributes, _ = WAYS[way]
    outputs = shape[1] * attributes.get("group", 1)
    nodes = [
        node("ConvTranspose", "x w b", "m", **attributes),
        node(activation, "m s" if activation == "PRelu" else "m", "y"),
    ]
    constants = {"w": weights(*shape), "b": weights(outputs), "s": weights(outputs, 1, 1)}
    return build(nodes, constants, shape=(1, shape[0], 7, 9))


@pytest.mark.parametrize("activation", ["PRelu", "Sigmoid"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_against_onnxruntime(way, activation):
    plan = check_engine(model(way, activation), (1, WAYS[way][0][0], 7, 9), "conv_transpose")
    assert plan.steps[-1].step.method.entry.name == WAYS[way][2]


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("way", WAYS)
def test_bits_do_not_depend_on_the_blocks(way, block):
    data, rng = model(way, "Sigmoid"), np.random.default_rng(1)
    policy = Policy(levels=(Level(float("inf"), 0.1, block),))
    session = Session(Plan.compile(load_model(data), policy=policy), exact=True)
    x = rng.standard_normal(session.plan.input_shape).astype(np.float32)
    for _ in range(5):
        found = session.push_tensor(x).outputs["y"]
        assert found.tobytes() == Session(Plan.compile(load_model(data))).push_tensor(x).outputs["y"].tobytes()
        x[0, 0, rng.integers(7), rng.integers(9)] += 1


@pytest.mark.parametrize("mode", [TEST_BITS, TEST_RMS])
@pytest.mark.parametrize("way", WAYS)
def test_decisions_are_taken_pixel_by_pixel(way, mode):
    plan = Plan.compile(load_model(model(way, "Sigmoid")))
    session = Session(plan)
    session.push_tensor(weights(*plan.input_shape))
    planned, state = plan.steps[-1], session._state
    info, method = plan.maps[planned.step.target], planned.step.method
    before, mask = state.arena.copy(), state.written[planned.step.target]
    info.view(state.arena)[0, 3, 5, 0] += 2
    info.view(state.arena)[0, 3, 6, 0] += 0.25
    mask[:] = 0
    everything = every_pixel(info.height, info.width, planned.block)
    limit, expected = (1.0, [(3, 5)]) if mode == TEST_RMS else (0.0, [(3, 5), (3, 6)])
    assert state.compute(method, everything, Test(mode, limit, planned.block)) == len(expected)
    assert np.argwhere(mask).tolist() == [list(at) for at in expected]
    left = 0.25 if mode == TEST_RMS else 0.0
    assert np.abs(state.arena - before).max() == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(1, 3, 5), (1, 20, 18), (3, 6, 9), (2, 34, 38)])
def test_against_onnxruntime(case, groups, inputs, outputs):
    data = build(
        [node("ConvTranspose", "x w b", "m", group=groups, **CASES[case]), node("LeakyRelu", "m", "y", alpha=0.3)],
        {"w": weights(inputs, outputs // groups, 3, 2), "b": weights(outputs)},
        shape=(1, inputs, 6, 8),
    )
    plan = check_engine(data, (1, inputs, 6, 8), "conv_transpose")
    assert plan.total_macs > 0


def test_a_changed_pixel_reaches_only_its_own_window():
    data = build([node("ConvTranspose", "x w", "y", strides=[2, 2])], {"w": weights(4, 3, 2, 2)}, shape=(1, 4, 16, 16))
    session = Session(Plan.compile(load_model(data)), exact=True)
    x = weights(1, 4, 16, 16)
    session.push_tensor(x)
    x[0, 0, 5, 6] += 1
    assert session.push_tensor(x).compute_fraction <= 16 / 256


def test_supports():
    graph = imported(build([node("ConvTranspose", "x w", "y")], {"w": weights(4, 3, 2, 2)}), (1, 4, 10, 12))
    assert supports(graph, graph.nodes[0]) is None
    double = {name: value.astype(np.float64) for name, value in graph.constants.items()}
    assert supports(replace(graph, constants=double), graph.nodes[0]) == "weights are float64, not float32"
    assert supports(replace(graph, constants={}), graph.nodes[0]) == "weights are computed, not constant"
