"""What is read of a model on frames, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from service.compression import activations
from service.compression.activations import Network, look, rows_of
from service.compression.graph import Surgeon
from service.families import create
from service.model_spec import ModelSpec
from service.opened import OpenedModel
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import build, node
from tests.service.compression.small_models import SIZE, network, spread


@pytest.fixture
def opened() -> OpenedModel:
    spec = ModelSpec()
    return OpenedModel(load_model(network()), spec, create(spec), SIZE, None)


def test_tensors_are_those_of_onnxruntime(opened):
    net, image = Network(opened), spread(1)[0]
    found = net.reader(["x", "y"])(net.prepared(image))
    assert found["x"].shape == (1, 3, SIZE[1], SIZE[0])
    np.testing.assert_array_equal(found["x"][0, 0], image[:, :, 2].astype(np.float32) * np.float32(1 / 255))
    np.testing.assert_allclose(found["y"], onnx_run(network(), {"x": found["x"]})[0], rtol=1e-5)


def test_work_is_counted_up_to_the_outputs(opened):
    convolutions = 768 * 32 * 27 + 192 * 48 * 32 * 9 + 192 * 48 * 48
    assert Network(opened).total_macs() == convolutions + 480
    assert {"c0", "c2", "y"} <= Network(opened).reached()


def test_a_sample_is_bounded_and_the_same_for_any_network(opened, monkeypatch):
    monkeypatch.setattr(activations, "ROWS", 100)
    net, layers = Network(opened), Surgeon(opened.model).layers
    images = [net.prepared(frame) for frame in spread(4)]
    shares: list[float] = []
    found = look(net, layers, images, shares.append)
    assert [found[layer.name].outputs.shape for layer in layers] == [(100, 32), (100, 48), (100, 48), (4, 10)]
    assert shares[-1] == 1.0
    for layer, rows in zip(layers, rows_of(net, [(x, x.target) for x in layers], images), strict=True):
        np.testing.assert_array_equal(rows, found[layer.name].outputs)
    assert (found["second"].size_in, found["second"].size_out) == ((24, 32), (12, 16))
    assert (found["last"].size_in, found["last"].size_out) == ((1, 1), (1, 1))


def test_the_root_is_that_of_the_inputs_covariance(opened):
    net, layers = Network(opened), Surgeon(opened.model).layers
    images = [net.prepared(frame) for frame in spread(3)]
    sample = look(net, layers[:1], images, lambda share: None)["first"]
    pixels = np.concatenate([net.reader(["x"])(image)["x"][0].reshape(3, -1).T for image in images])
    assert sample.root is not None
    np.testing.assert_allclose(sample.root @ sample.root.T, np.cov(pixels.T, bias=True), rtol=5e-3, atol=1e-4)
    assert look(net, layers[3:], images, lambda share: None)["last"].root is None, "three rows tell nothing of 48"


def test_a_matrix_without_a_bias_is_weighed_with_the_mean_too():
    """What is constant in its inputs is as much of its outputs as what changes."""
    weights = np.random.default_rng(0).standard_normal((SIZE[0], 6)).astype(np.float32)
    data = build([node("MatMul", "x w", "y", "only")], {"w": weights}, shape=(1, 3, SIZE[1], SIZE[0]))
    spec = ModelSpec()
    net = Network(OpenedModel(load_model(data), spec, create(spec), SIZE, None))
    images = [net.prepared(200 + frame // 8) for frame in spread(3)]
    (layer,) = Surgeon(net.model).layers
    root = look(net, [layer], images, lambda share: None)["only"].root
    rows = np.concatenate([net.reader(["x"])(image)["x"].reshape(-1, SIZE[0]) for image in images]).astype(np.float64)
    moments = rows.T @ rows / len(rows)
    assert moments.min() > 0.5, "far from zero, where a covariance is not"
    np.testing.assert_allclose(root @ root.T, moments, rtol=2e-3)


def test_few_rows_of_many_channels_take_no_square_of_them(monkeypatch):
    def zeros(shape, *rest):
        raise AssertionError(f"array of {shape}")

    monkeypatch.setattr(activations.np, "zeros", zeros)
    rows = [np.ones((1, 1 << 17), np.float32)] * 16
    assert activations._root(rows, centred=True) is None
