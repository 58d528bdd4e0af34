"""Networks written on the spot: their work is that of the papers, and they run."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.session import Session
from service.bench import synthetic
from service.bench.synthetic import SyntheticError, is_synthetic, open_synthetic


@pytest.mark.parametrize(
    ("name", "gmacs", "shape"),
    [
        ("vgg16", 15.347, (1, 512, 1, 2)),
        ("resnet18", 1.814, (1, 1000)),
        ("mobilenet", 0.300, (1, 1000)),
        ("replknet", 1.177, (1, 1000)),
    ],
)
def test_a_network_is_the_one_of_the_paper_and_runs(name, gmacs, shape):
    """Multiplications at 224x224: MobileNetV2 0.30 G (the paper's table 4), VGG-16 15.35 G, ResNet-18 1.81 G.
    RepLKNet's cut is ours: 1.177 G by hand."""
    opened = open_synthetic(f"synthetic:{name}", (64, 32))
    plan = opened.compile()
    assert plan.total_macs / 1e9 == pytest.approx(gmacs * (64 * 32) / (224 * 224), rel=0.01)
    frame = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    (values,) = Session(plan, exact=True).push(frame).outputs.values()
    assert values.shape == shape
    assert 1e-4 < np.abs(values).max() < 1e4


def test_vgg16_has_its_fully_connected_layers_if_asked_for():
    model = load_model(synthetic.vgg16_whole((64, 32), wide=16))
    products = [node.inputs[1] for node in model.source.nodes if node.op == "onnx.Gemm"]
    assert [model.source.constants[name].shape for name in products] == [(16, 1024), (16, 16), (1000, 16)]
    assert "vgg16-whole" in synthetic.NETWORKS


def test_the_same_weights_every_time():
    assert synthetic.resnet18((32, 32)) == synthetic.resnet18((32, 32))


def test_names():
    assert is_synthetic("synthetic:vgg16")
    assert not is_synthetic("vgg16.onnx")
    with pytest.raises(SyntheticError, match=r"expected one of synthetic:vgg16, .*got 'synthetic:vgg19'"):
        open_synthetic("synthetic:vgg19")


@pytest.mark.parametrize("size", [(100, 64), (64, 0)])
def test_sizes_that_the_strides_do_not_divide(size):
    with pytest.raises(SyntheticError, match="multiples of 32"):
        open_synthetic("synthetic:vgg16", size)
