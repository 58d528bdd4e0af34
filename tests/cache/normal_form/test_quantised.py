"""What becomes an op on bytes, and what stays in ONNX Runtime; the results are tested with `cache.ops`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache.onnx_import import import_graph, load_model
from cache.plan import Plan
from cache.session import Session
from tests.cache.quantised_models import LEVELS, Model, images, runtime, weights

SHAPE = (1, 4, 10, 12)


def kinds(m: Model, **outputs: Any) -> list[str]:
    """The ops of the normal form, in order."""
    graph = import_graph(load_model(m.build(SHAPE, outputs, opset=21)), SHAPE)
    return [node.op for node in graph.nodes]


def quantised(m: Model, dtype: Any = np.uint8) -> str:
    """x as bytes "q", and its parameters."""
    params = m.params(0.02, 0 if dtype is np.int8 else 128, dtype)
    m.add("QuantizeLinear", f"x {params}", "q")
    return params


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_sixteen_bits_stay(dtype: Any) -> None:
    m = Model()
    params = m.params(0.02, 0, dtype)
    m.add("QuantizeLinear", f"x {params}", "q")
    m.add("DequantizeLinear", f"q {params}", "y")
    assert kinds(m, y=np.float32) == ["onnx.QuantizeLinear", "onnx.DequantizeLinear"]


def test_scales_per_channel_of_a_map_stay() -> None:
    m = Model()
    params = m.params(np.full(4, 0.02), np.zeros(4))
    m.add("QuantizeLinear", f"x {params}", "q", axis=1)
    m.add("DequantizeLinear", f"q {params}", "y", axis=1)
    assert kinds(m, y=np.float32) == ["onnx.QuantizeLinear", "onnx.DequantizeLinear"]


def test_no_zero_point_is_zero() -> None:
    m = Model()
    scale = m.constant(0.02)
    m.add("QuantizeLinear", f"x {scale}", "q")
    m.add("DequantizeLinear", f"q {scale}", "y")
    assert kinds(m, y=np.float32) == ["quantise", "dequantise"]


def test_a_scale_of_zero_stays() -> None:
    m = Model()
    m.add("QuantizeLinear", f"x {m.params(0.0, 0)}", "q")
    assert kinds(m, q=np.uint8) == ["onnx.QuantizeLinear"]


def test_concat_of_rows_stays() -> None:
    m = Model()
    params = quantised(m)
    m.add("QLinearConcat", f"{params} q {params} q {params}", "y", axis=2)
    assert kinds(m, y=np.uint8) == ["quantise", "onnx.com.microsoft.QLinearConcat"]


def test_linear_resize_of_bytes_stays() -> None:
    m = Model()
    quantised(m)
    m.add("Resize", f"q - {m.constant([1, 1, 2, 2])}", "y", mode="linear")
    assert kinds(m, y=np.uint8) == ["quantise", "onnx.Resize"]


def test_channels_last_stays() -> None:
    m = Model()
    params = quantised(m)
    m.add("QLinearGlobalAveragePool", f"q {params} {params}", "y", channels_last=1)
    assert kinds(m, y=np.uint8)[1:] == ["onnx.com.microsoft.QLinearGlobalAveragePool"]


def test_split_of_bytes_is_a_view() -> None:
    m = Model()
    params = quantised(m)
    m.add("Split", "q", "a b", axis=1, num_outputs=2)
    for name in "ab":
        m.add("DequantizeLinear", f"{name} {params}", f"y{name}")
    assert kinds(m, ya=np.float32, yb=np.float32) == ["quantise", "q_select", "q_select", "dequantise", "dequantise"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_tail_takes_bytes(dtype: Any) -> None:
    """What follows in ONNX Runtime reads the cached bytes, in their type."""
    m = Model()
    params = quantised(m, dtype)
    w = f"{m.constant(weights(np.random.default_rng(0), 6, 4, 3, 3), np.int8)} {m.params(0.01, 0, np.int8)}"
    m.add("QLinearConv", f"q {params} {w} {params}", "c")
    m.add("Reshape", f"c {m.constant([1, 6, -1], np.int64)}", "r")
    m.add("DequantizeLinear", f"r {params}", "y")
    data = m.build(SHAPE, {"y": np.float32})
    plan = Plan.compile(load_model(data), SHAPE)
    assert [tail.inputs for tail in plan.partition.tails] == [("c",)]
    session = Session(plan, exact=True)
    for x in images(SHAPE):
        expected = runtime(data, x, LEVELS.ORT_ENABLE_ALL)[0]
        np.testing.assert_array_equal(session.push_tensor(x).outputs["y"], expected)
