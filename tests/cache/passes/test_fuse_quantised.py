"""Which nodes around bytes are fused, and which stay in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache.graph import Graph
from cache.onnx_import import import_graph, load_model
from tests.cache.quantised_models import Model, check_quantised, weights

SHAPE = (1, 4, 10, 12)


def imported(m: Model, **outputs: Any) -> Graph:
    """The graph in normal form."""
    return import_graph(load_model(m.build(SHAPE, outputs)), SHAPE)


def kinds(graph: Graph) -> list[str]:
    """The ops, in order."""
    return [node.op for node in graph.nodes]


def conv(m: Model, x: str, out: str, *, bias: str = "", bytes_: bool = True) -> str:
    """A convolution of x with weights stored as bytes, or not."""
    w = weights(np.random.default_rng(0), 6, 4, 3, 3)
    if bytes_:
        m.add("DequantizeLinear", f"{m.constant(w, np.int8)} {m.params(0.01, 0, np.int8)}", f"{out}_w")
    else:
        m.constants[f"{out}_w"] = w.astype(np.float32) / 100
    return m.add("Conv", f"{x} {out}_w {bias}".strip(), out)


def test_a_convolution_between_bytes() -> None:
    m = Model()
    y = m.fake(conv(m, m.fake("x", 0.02, 128), "c"), 0.05, 100)
    graph = imported(m, **{y: np.float32})
    assert kinds(graph) == ["quantise", "q_conv", "dequantise"]
    node = graph.nodes[1]
    assert node.name == "c/Conv"
    assert graph.constants[node.inputs[1]].dtype == np.int8
    assert node.attrs["limits"] == (0, 255)
    assert (node.attrs["zero_point"], node.attrs["out_zero_point"]) == (128, 100)
    np.testing.assert_array_equal(node.attrs["scale"], np.float32(0.02) * np.float32(0.01) / np.float32(0.05))


@pytest.mark.parametrize(("op", "limits"), [("Relu", (100, 255)), ("Clip", (90, 220))])
def test_limits_become_those_of_the_bytes(op: str, limits: tuple[int, int]) -> None:
    m = Model()
    bounds = f" {m.constant(-0.5)} {m.constant(6.0)}" if op == "Clip" else ""
    m.add(op, conv(m, m.fake("x", 0.02, 128), "c") + bounds, "r")
    graph = imported(m, **{m.fake("r", 0.05, 100): np.float32})
    assert kinds(graph) == ["quantise", "q_conv", "dequantise"]
    assert graph.nodes[1].attrs["limits"] == limits


def test_float_weights_and_float_biases_stay() -> None:
    m = Model()
    y = m.fake(conv(m, m.fake("x", 0.02, 128), "c", bytes_=False), 0.05, 100)
    assert "conv" in kinds(imported(m, **{y: np.float32}))
    m = Model()
    bias = m.constant(np.ones(6))
    y = m.fake(conv(m, m.fake("x", 0.02, 128), "c", bias=bias), 0.05, 100)
    assert "conv" in kinds(imported(m, **{y: np.float32}))


def test_a_float_result_that_is_used_stays() -> None:
    m = Model()
    y = m.fake(conv(m, m.fake("x", 0.02, 128), "c"), 0.05, 100)
    assert "conv" in kinds(imported(m, c=np.float32, **{y: np.float32}))


def test_weights_that_batchnorm_scaled_stay_float() -> None:
    m = Model()
    conv(m, m.fake("x", 0.02, 128), "c")
    rng = np.random.default_rng(0)
    m.add("BatchNormalization", "c " + " ".join(m.constant(rng.uniform(0.5, 2, 6)) for _ in range(4)), "n")
    data = m.build(SHAPE, {m.fake("n", 0.05, 100): np.float32})
    plan = check_quantised(data, SHAPE, step=0.05, share=0.01, fused=False)
    assert [s.step.op for s in plan.steps] == ["quantise", "dequantise", "conv", "quantise", "dequantise"]


def test_the_same_bytes_again_are_nothing() -> None:
    m = Model()
    params = m.params(0.02, 128)
    m.add("QuantizeLinear", f"x {params}", "q")
    m.add("DequantizeLinear", f"q {params}", "d")
    m.add("QuantizeLinear", f"d {params}", "r")
    m.add("DequantizeLinear", f"r {params}", "y")
    assert kinds(imported(m, y=np.float32)) == ["quantise", "dequantise"]


def test_other_bytes_are_a_table() -> None:
    m = Model()
    graph = imported(m, **{m.fake(m.fake("x", 0.02, 128), 0.05, 100): np.float32})
    assert kinds(graph) == ["quantise", "dequantise"]
    table = graph.nodes[0].attrs["table"]
    np.testing.assert_array_equal(table[[128, 133, 138]], [100, 102, 104])


def test_moves_are_of_bytes() -> None:
    m = Model()
    m.add("MaxPool", m.fake("x", 0.02, 128), "p", kernel_shape=[2, 2])
    graph = imported(m, p=np.float32)
    assert kinds(graph) == ["quantise", "q_max_pool", "dequantise"]
    assert graph.nodes[-1].output == "p"


def test_a_mean_of_bytes_is_in_float32() -> None:
    m = Model()
    m.add("AveragePool", m.fake("x", 0.02, 128), "p", kernel_shape=[2, 2])
    graph = imported(m, **{m.fake("p", 0.02, 128): np.float32})
    assert kinds(graph) == ["quantise", "dequantise", "avg_pool", "quantise", "dequantise"]


def test_a_function_per_channel_is_no_table() -> None:
    m = Model()
    m.add("PRelu", f"{m.fake('x', 0.02, 128)} {m.constant(np.arange(4).reshape(4, 1, 1))}", "p")
    assert "activate" in kinds(imported(m, **{m.fake("p", 0.02, 128): np.float32}))


def test_a_shared_tensor_keeps_its_bytes() -> None:
    """A table goes into what makes its input only where nothing else reads that."""
    m = Model()
    params = m.params(0.02, 128)
    m.add("QuantizeLinear", f"x {params}", "q")
    m.add("QLinearSigmoid", f"q {params} {params}", "s")
    m.add("DequantizeLinear", f"s {params}", "y")
    m.add("DequantizeLinear", f"q {params}", "z")
    assert sorted(kinds(imported(m, y=np.float32, z=np.float32))) == [
        "dequantise",
        "dequantise",
        "q_lookup",
        "quantise",
    ]
