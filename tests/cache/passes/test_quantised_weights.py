"""Which constants are folded, and what is remembered of convolutions' weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache.graph import Graph
from cache.onnx_import import load_model
from cache.passes.quantised_weights import QuantisedWeights, fold_quantised_weights
from tests.cache.quantised_models import Model


def folded(m: Model) -> tuple[Graph, dict[str, QuantisedWeights]]:
    """The file's own graph after the fold."""
    graph, found = fold_quantised_weights(load_model(m.build((1, 4, 10, 12), {"y": np.float32}, opset=21)).source)
    return graph, dict(found)


def model(bias: str = "int32", **attrs: Any) -> Model:
    m, rng = Model(), np.random.default_rng(0)
    w = m.constant(rng.integers(-128, 128, (6, 4, 3, 3)), np.int8)
    m.add("DequantizeLinear", f"{w} {m.params(rng.random(6), np.zeros(6), np.int8)}", "w", axis=0)
    if bias == "int32":
        params = m.params(rng.random(6), np.zeros(6), np.int32)
        m.add("DequantizeLinear", f"{m.constant(np.arange(6), np.int32)} {params}", "b", axis=0)
    elif bias == "float":
        m.constants["b"] = np.ones(6, np.float32)
    m.add("Conv", "x w" + (" b" if bias else ""), "y", **attrs)
    return m


def test_weights_and_bias() -> None:
    graph, found = folded(m := model())
    assert [node.op for node in graph.nodes] == ["onnx.Conv"]
    scale = m.constants["c2"]
    np.testing.assert_array_equal(found["y/Conv"].scale, scale)
    np.testing.assert_array_equal(found["y/Conv"].bias, np.arange(6))
    expected = m.constants["c1"].astype(np.float32) * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(graph.constants["w"], expected)
    np.testing.assert_array_equal(graph.constants["b"], found["y/Conv"].float_bias)


def test_no_bias() -> None:
    _, found = folded(model(""))
    assert found["y/Conv"].bias is None


def test_a_float_bias_is_not_ours() -> None:
    assert folded(model("float"))[1] == {}


@pytest.mark.parametrize(
    ("shape", "attrs", "expected"),
    [((), {}, 1), ((3,), {"axis": 1}, 1), ((2, 3, 1), {"axis": 2, "block_size": 5}, 2)],
)
def test_what_is_folded(shape: tuple[int, ...], attrs: dict[str, int], expected: int) -> None:
    m, rng = Model(), np.random.default_rng(0)
    q = rng.integers(0, 256, (2, 3, 5))
    params = m.params(rng.random(shape), rng.integers(0, 256, shape), np.uint8)
    m.add("DequantizeLinear", f"{m.constant(q, np.uint8)} {params}", "d", **attrs)
    m.add("Add", "x d", "y")
    graph = load_model(m.build((2, 3, 5), {"y": np.float32}, opset=21)).source
    assert len(fold_quantised_weights(graph)[0].nodes) == expected
