"""Small hand-made ONNX models, and the comparison of their import with ONNX Runtime. Test code only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cache.graph import Graph
from cache.onnx_import import extract, import_graph, load_model
from tests.cache.interpreter import onnx_run, run_all

MODELS = Path(__file__).parents[3] / "shared" / "data" / "models"
SHAPE = (1, 4, 10, 12)


def node(op: str, inputs: str, outputs: str, name: str = "", **attrs: Any) -> onnx.NodeProto:
    """A node whose tensors are listed by spaces; '-' is an absent input."""
    names = ["" if item == "-" else item for item in inputs.split()]
    return helper.make_node(op, names, outputs.split(), name=name, **attrs)


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any] | None = None,
    *,
    shape: Sequence[int | str | None] | None = SHAPE,
    outputs: Sequence[str] | Mapping[str, int] = ("y",),
    opset: int = 17,
    dtype: int = onnx.TensorProto.FLOAT,
    **model: Any,
) -> bytes:
    """A model from x to y; outputs may be given with their element types."""
    kinds = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs, dtype)
    graph = helper.make_graph(
        list(nodes),
        "hand-made",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(name, element, None) for name, element in kinds.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **model)
    return proto.SerializeToString()


def weights(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(data: bytes, shape: Sequence[int] = SHAPE, tolerance: float = 1e-5) -> Graph:
    """Import, run here and in ONNX Runtime, compare every output; returns the graph."""
    model = load_model(data)
    graph = import_graph(model, tuple(shape))
    x = (np.random.default_rng(0).standard_normal(shape) * 2).astype(np.float32)
    found = run_all(model, graph, x)
    name = graph.inputs[0]
    expected = onnx_run(extract(model, {name: shape}, graph.outputs), {name: x})
    for output, value in zip(graph.outputs, expected, strict=True):
        assert found[output].shape == value.shape
        np.testing.assert_allclose(found[output], value, rtol=tolerance, atol=tolerance * max(np.abs(value).max(), 1))
    return graph


def ops(graph: Graph) -> list[str]:
    return [item.op for item in graph.nodes]


def model_path(name: str) -> Path:
    path = MODELS / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/data/models")
    return path
