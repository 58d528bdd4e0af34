"""Types of ONNX Runtime's own ops, against those of the tensors that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cache.graph import Node, TensorType
from cache.normal_form.contrib_types import contrib_types
from tests.cache.quantised_models import LEVELS, Model, runtime

SHAPE = (1, 4, 9, 12)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("QLinearAdd", "q P r P P", {}),
        ("QLinearMul", "q P m P P", {}),
        ("QLinearSigmoid", "q P P", {}),
        ("QLinearLeakyRelu", "q P P", {"alpha": 0.1}),
        ("QLinearConcat", "P q P r P", {"axis": 1}),
        ("QLinearConcat", "P q P r P", {"axis": -1}),
        ("QLinearGlobalAveragePool", "q P P", {}),
        ("QLinearAveragePool", "q P P", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
        ("QLinearAveragePool", "q P P", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_types_are_those_of_the_runtime(op: str, inputs: str, attrs: dict[str, Any], dtype: type) -> None:
    m = Model()
    params = m.params(0.02, 5, dtype)
    for name in "qr":
        m.add("QuantizeLinear", f"x {params}", name)
    m.add("QLinearGlobalAveragePool", f"q {params} {params}", "m")
    listed = inputs.replace("P", params)
    m.add(op, listed, "y", **attrs)
    value = runtime(m.build(SHAPE, {"y": dtype}), np.zeros(SHAPE, np.float32), LEVELS.ORT_DISABLE_ALL)[0]
    full, small = TensorType(np.dtype(dtype), SHAPE), TensorType(np.dtype(dtype), (1, 4, 1, 1))
    known = {"q": full, "r": full, "m": small}
    names = tuple(listed.split())
    found = contrib_types(Node("n", f"onnx.com.microsoft.{op}", names, ("y",), attrs), known)
    assert found == {"y": TensorType(value.dtype, value.shape)}


def test_unknown_ops_and_inputs_have_no_type() -> None:
    x = TensorType(np.dtype(np.uint8), SHAPE)
    assert contrib_types(Node("n", "onnx.com.microsoft.QGemm", ("q",), ("y",), {}), {"q": x}) == {}
    assert contrib_types(Node("n", "onnx.com.microsoft.QLinearSigmoid", ("q",), ("y",), {}), {}) == {}
    last = {"channels_last": 1}
    assert contrib_types(Node("n", "onnx.com.microsoft.QLinearGlobalAveragePool", ("q",), ("y",), last), {"q": x}) == {}
