"""Scale and shift per channel, and activations that nothing could take in."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.affine import supports
from cache.plan import Plan
from cache.session import Session
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights


@pytest.mark.parametrize("channels", [3, 16, 21])
def test_scale_and_shift(channels):
    nodes = [node("Mul", "x scale", "m"), node("Add", "m shift", "a"), node("PRelu", "a slope", "y")]
    constants = {"scale": weights(1, channels, 1, 1), "shift": weights(channels, 1, 1, seed=2),
                 "slope": weights(channels, 1, 1, seed=3)}  # fmt: skip
    plan = check_engine(build(nodes, constants, shape=(1, channels, 9, 8)), (1, channels, 9, 8), "affine")
    assert [s.step.op for s in plan.steps if s.step.op != "pack"] == ["affine"]


def test_batch_normalisation_of_the_image():
    names = "x gamma beta mean variance"
    constants = {name: weights(5, seed=i) for i, name in enumerate(names.split()[1:])}
    constants["variance"] = np.abs(constants["variance"])
    data = build([node("BatchNormalization", names, "y")], constants, shape=(1, 5, 6, 7))
    check_engine(data, (1, 5, 6, 7), "affine")


BARE = {
    "Relu": [node("Relu", "x", "y")],
    "LeakyRelu": [node("LeakyRelu", "x", "y", alpha=0.3)],
    "PRelu": [node("PRelu", "x slope", "y")],
    "Clip": [node("Clip", "x low high", "y")],
    "Sigmoid": [node("Sigmoid", "x", "y")],
    "HardSigmoid": [node("HardSigmoid", "x", "y")],
    "HardSwish": [node("HardSwish", "x", "y")],
    "Silu": [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")],
}


@pytest.mark.parametrize("kind", BARE)
@pytest.mark.parametrize("channels", [1, 18])
def test_bare_activations(kind, channels):
    constants = {"slope": weights(channels, 1, 1), "low": np.float32(-0.2), "high": np.float32(0.6)}
    data = build(BARE[kind], constants, shape=(1, channels, 7, 9))
    check_engine(data, (1, channels, 7, 9), "activate")


def test_the_sign_of_zero_is_kept():
    plan = Plan.compile(load_model(build([node("LeakyRelu", "x", "y", alpha=0.5)], shape=(1, 2, 3, 3))))
    x = np.full((1, 2, 3, 3), -0.0, np.float32)
    assert np.signbit(Session(plan).push_tensor(x).outputs["y"]).all()


def test_supports():
    graph = imported(build([node("Relu", "x", "y")]), (1, 4, 10, 12))
    assert supports(graph, graph.nodes[0]) is None
