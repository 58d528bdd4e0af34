"""How far outputs stray, and agreement by what a model tells."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cache.onnx_import import load_model
from service.compression.activations import Network
from service.compression.measure import Truth
from service.families import create
from service.model_spec import ModelSpec
from service.opened import OpenedModel
from tests.service.compression.small_models import SIZE, network, spread


def scaled(data: bytes, factor: float) -> bytes:
    """The network with its last weights times a factor."""
    proto = onnx.load_model_from_string(data)
    for item in proto.graph.initializer:
        if item.name == "w3":
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(factor), item.name))
    return proto.SerializeToString()


def truth_of(family: str, data: bytes) -> tuple[OpenedModel, Truth]:
    spec = ModelSpec.model_validate({"family": family})
    opened = OpenedModel(load_model(data), spec, create(spec), SIZE, None)
    net = Network(opened)
    return opened, Truth(opened, net, [net.prepared(frame) for frame in spread(3)])


@pytest.mark.parametrize("factor", [1.0, 1.1, 0.5])
def test_the_error_is_relative(factor):
    opened, truth = truth_of("raw", network())
    other = Network(opened, load_model(scaled(network(), factor)))
    assert truth.error(other) == pytest.approx(abs(factor - 1), abs=1e-5)
    assert truth.compare(other) == (pytest.approx(abs(factor - 1), abs=1e-5), None)


def test_classes_are_compared_by_the_best_one():
    opened, truth = truth_of("classification", network())
    assert truth.compare(truth_net := Network(opened))[1] == {"top1": 1.0}
    assert truth_net.outputs == ("y",)
    _, agreement = truth.compare(Network(opened, load_model(scaled(network(), -1.0))))
    assert agreement == {"top1": 0.0}


def test_outputs_that_are_not_finite_are_infinitely_far():
    opened, truth = truth_of("raw", network())
    assert truth.error(Network(opened, load_model(scaled(network(), float("inf"))))) == float("inf")
