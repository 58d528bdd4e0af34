"""A convolution as a matrix product gives what ONNX Runtime gives, and takes the memory that it says."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bench.im2col import Im2col, Space, Window

CASES = {
    "plain": ((5, 9, 8), (7, 5, 3, 3), Window()),
    "padded": ((4, 9, 8), (6, 4, 3, 3), Window(pads=(1, 1, 1, 1))),
    "stride": ((4, 11, 10), (6, 4, 3, 3), Window((2, 2), (1, 1, 1, 1))),
    "strides that differ": ((3, 11, 10), (2, 3, 5, 3), Window((3, 1), (2, 0, 1, 2))),
    "dilation": ((3, 12, 13), (2, 3, 3, 3), Window(pads=(2, 1, 2, 1), dilations=(2, 3))),
    "groups": ((6, 7, 7), (9, 2, 3, 3), Window(pads=(1, 1, 1, 1), groups=3)),
    "depthwise": ((6, 8, 7), (6, 1, 3, 3), Window((2, 2), (1, 1, 1, 1), groups=6)),
    "1x1": ((6, 5, 7), (4, 6, 1, 1), Window()),
    "1x1 of stride 2": ((6, 5, 7), (4, 6, 1, 1), Window((2, 2))),
    "1x1 in groups": ((6, 5, 7), (4, 3, 1, 1), Window(groups=2)),
    "7x7": ((3, 17, 16), (4, 3, 7, 7), Window((2, 2), (3, 3, 3, 3))),
    "a kernel as large as the image": ((2, 5, 5), (3, 2, 5, 5), Window()),
}


def expected(x, weight, bias, window):
    """The same by ONNX Runtime."""
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    node = helper.make_node(
        "Conv", ["x", *constants], ["y"], strides=window.strides, pads=window.pads, dilations=window.dilations,
        group=window.groups,
    )  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    ends[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *x.shape])
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x[None]})[0][0]


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("case", CASES)
def test_as_onnx_runtime(case, with_bias):
    shape, weights, window = CASES[case]
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(shape, np.float32), rng.standard_normal(weights, np.float32)
    bias = rng.standard_normal(weights[0], np.float32) if with_bias else None
    layer = Im2col(weight, bias, window, shape)
    truth = expected(x, weight, bias, window)
    assert layer.output_shape == truth.shape
    out = np.full(layer.output_shape, np.nan, np.float32)
    for _ in range(2):  # what a call leaves behind does not show in the next one
        np.testing.assert_allclose(layer.run(x, out), truth, rtol=1e-4, atol=1e-4)


def test_columns_by_hand():
    """Pixels 0 to 8 in a square, windows of 2x2: a row for each position in the window, a column for each pixel."""
    layer = Im2col(np.ones((1, 1, 2, 2), np.float32), None, Window(), (1, 3, 3))
    found = layer.columns(np.arange(9, dtype=np.float32).reshape(1, 3, 3))
    assert found[0].tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]


def test_memory_by_hand():
    padded = Im2col(np.ones((8, 4, 3, 3), np.float32), None, Window(pads=(1, 1, 1, 1)), (4, 10, 12))
    assert padded.padded_bytes == 4 * 4 * 12 * 14
    assert padded.matrix_bytes == 4 * 4 * 9 * 10 * 12
    assert padded.extra_bytes == padded.padded_bytes + padded.matrix_bytes
    assert padded.macs == 8 * 4 * 9 * 10 * 12
    pointwise = Im2col(np.ones((8, 4, 1, 1), np.float32), None, Window(), (4, 10, 12))
    assert pointwise.extra_bytes == 0
    assert pointwise.macs == 8 * 4 * 10 * 12
    depthwise = Im2col(np.ones((4, 1, 3, 3), np.float32), None, Window(groups=4), (4, 10, 12))
    assert depthwise.macs == 4 * 9 * 8 * 10


def test_a_pointwise_convolution_reads_its_input_in_place():
    layer = Im2col(np.ones((8, 4, 1, 1), np.float32), None, Window(), (4, 10, 12))
    x = np.zeros((4, 10, 12), np.float32)
    assert np.shares_memory(layer.columns(x), x)


def test_layers_share_the_space_of_the_largest():
    space = Space()
    small = Im2col(np.ones((1, 1, 3, 3), np.float32), None, Window(pads=(1, 1, 1, 1)), (1, 4, 4), space)
    large = Im2col(np.ones((1, 1, 3, 3), np.float32), None, Window(pads=(1, 1, 1, 1)), (1, 8, 8), space)
    assert space.nbytes == large.extra_bytes
    out = np.empty((1, 4, 4), np.float32)
    large.run(np.ones((1, 8, 8), np.float32), np.empty((1, 8, 8), np.float32))
    assert small.run(np.ones((1, 4, 4), np.float32), out)[0].tolist() == [
        [4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "window", "said"),
    [
        ((2, 3, 3, 3), Window(), "expected 3 channels"),
        ((3, 2, 3, 3), Window(groups=2), "expected 4 channels in 2 groups"),
        ((2, 4, 7, 3), Window(), "at least 7x3 with its pads, got 5x6"),
    ],
)
def test_what_does_not_fit_is_refused(weights, window, said):
    with pytest.raises(ValueError, match=said):
        Im2col(np.ones(weights, np.float32), None, window, (4, 5, 6))
