"""A step's contract: it writes what the test lets through, marks it, and says how much it was."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.conv import convolution
from cache.plan import Plan
from cache.session import Session
from cache.steps import act, method
from kernels.layout import Test
from kernels.simd import STORE, TEST_BITS, TEST_RMS
from tests.cache.onnx_models import build, node, weights

OPS = {
    "conv": ([node("Conv", "x w", "y", pads=[1, 1, 1, 1])], {"w": weights(18, 5, 3, 3)}),
    "depthwise": ([node("Conv", "x w", "y", group=5, pads=[1, 1, 1, 1])], {"w": weights(5, 1, 3, 3)}),
    "conv_transpose": ([node("ConvTranspose", "x w", "y", strides=[2, 2])], {"w": weights(5, 3, 2, 2)}),
    "max_pool": ([node("MaxPool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
    "avg_pool": ([node("AveragePool", "x", "y", kernel_shape=[3, 3])], {}),
    "global": ([node("GlobalAveragePool", "x", "y")], {}),
    "resize": ([node("Resize", "x - s", "y", mode="linear")], {"s": np.array([1, 1, 2, 2], np.float32)}),
    "add": ([node("Add", "x x", "y")], {}),
    "activate": ([node("Relu", "x", "y")], {}),
    "pad": ([node("Pad", "x p", "q"), node("MaxPool", "q", "y", kernel_shape=[1, 1])],
            {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
}  # fmt: skip


def test_a_method_keeps_the_arrays_behind_its_words():
    table = np.arange(6, dtype=np.int64).reshape(2, 3)
    made = method(convolution, 7, table, (1, 2))
    assert made.words.tolist() == [7, table.ctypes.data, 2, 3, 1, 2]
    assert made.kept == (table,)
    assert made.weight_bytes == 48


def test_act_has_the_types_kernels_expect():
    made = act(np.int64(3), 1, np.float32(2))
    assert [type(field) for field in made] == [int, float, float, int, int]


@pytest.mark.parametrize("op", OPS)
def test_compute_writes_marks_and_counts(op):
    nodes, constants = OPS[op]
    plan = Plan.compile(load_model(build(nodes, constants, shape=(1, 5, 9, 10))))
    session = Session(plan)
    session.push_tensor(weights(1, 5, 9, 10))
    state, planned = session._state, plan.steps[0]
    info, mask = plan.maps[planned.step.target], state.written[planned.step.target]
    height, width = mask.shape
    pixels = np.argwhere(np.ones((height, width), bool)).astype(np.int32)
    stored = info.view(state.arena).copy()
    for reader in planned.step.reads:
        state.written[reader.map][:] = 1
    mask[:] = 0
    assert state.compute(planned.step.method, pixels, Test(TEST_BITS, 0.0, 1)) == 0
    assert not mask.any()
    y, x = height // 2, width // 2
    info.view(state.arena)[:, y, x] += 1000
    everything_passes = Test(TEST_RMS, 1e12, 1)
    assert state.compute(planned.step.method, pixels, everything_passes) == 0
    assert state.compute(planned.step.method, pixels, Test(TEST_BITS, 0.0, 1)) == 1
    assert np.argwhere(mask).tolist() == [[y, x]]
    np.testing.assert_array_equal(info.view(state.arena), stored)
    mask[:] = 0
    assert state.compute(planned.step.method, pixels, Test(STORE, 0.0, 1)) == height * width
    assert mask.all()
    np.testing.assert_array_equal(info.view(state.arena), stored)
