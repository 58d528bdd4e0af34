"""How far outputs stray, and agreement by what a model tells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cache.onnx_import import load_model
from service.compression.activations import Network
from service.compression.errors import CompressionError
from service.compression.measure import Truth
from service.families import create
from service.model_spec import ModelSpec
from service.opened import OpenedModel
from tests.service.compression.small_models import SIZE, maps, network, spread


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


def ending_in(op: str, output: int, **attributes: object) -> bytes:
    """Maps with another node at their end, whose outputs are "y" and of this type."""
    proto = onnx.load_model_from_string(maps())
    proto.graph.node[-1].output[0] = "scores"
    proto.graph.node.append(helper.make_node(op, ["scores"], ["y"], **attributes))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("y", output, None))
    return proto.SerializeToString()


def with_last(data: bytes, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The model with other weights of its last convolution."""
    proto = onnx.load_model_from_string(data)
    last = next(item for item in proto.graph.initializer if item.name == "w2")
    last.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(last)), "w2"))
    return proto.SerializeToString()


def test_classes_of_pixels_are_right_or_wrong():
    data = ending_in("ArgMax", TensorProto.INT64, axis=1, keepdims=0)
    opened, truth = truth_of("segmentation", data)
    error, agreement = truth.compare(Network(opened))
    assert (error, agreement["pixels"]) == (0.0, 1.0)
    error, agreement = truth.compare(Network(opened, load_model(with_last(data, lambda w: np.roll(w, 1, axis=0)))))
    assert (error, agreement["pixels"]) == (1.0, 0.0), "every pixel has the class after its own"


def test_integers_count_by_the_share_that_differs():
    data = ending_in("ArgMax", TensorProto.INT64, axis=3, keepdims=0)  # the column where each row is brightest
    opened, truth = truth_of("raw", data)
    other = Network(opened, load_model(with_last(data, lambda w: w + np.roll(w, 1, axis=1) / 2)))
    images = [other.prepared(frame) for frame in spread(3)]
    one, two = (np.stack([net.reader(["y"])(image)["y"] for image in images]) for net in (Network(opened), other))
    share = float((one != two).mean())
    assert 0 < share < 1
    assert truth.error(other) == pytest.approx(np.sqrt(share))


def test_outputs_of_another_shape_are_infinitely_far():
    opened, truth = truth_of("raw", ending_in("ArgMax", TensorProto.INT64, axis=1, keepdims=0))
    other = ending_in("ArgMax", TensorProto.INT64, axis=1, keepdims=1)
    assert truth.error(Network(opened, load_model(other))) == float("inf")


def test_outputs_without_anything_to_compare_are_refused():
    """No class has a score of infinity, so that the list of those that have is empty."""
    proto = onnx.load_model_from_string(ending_in("NonZero", TensorProto.INT64))
    proto.graph.node[-1].input[0] = "far"
    proto.graph.node.insert(len(proto.graph.node) - 1, helper.make_node("IsInf", ["scores"], ["far"]))
    with pytest.raises(CompressionError, match="expected an output of numbers to compare, got y"):
        truth_of("raw", proto.SerializeToString())
