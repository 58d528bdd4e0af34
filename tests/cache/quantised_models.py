"""Small quantised models, and their comparison with ONNX Runtime, fused and not. Test code only.

Weights lie in [-64, 63]: on CPUs without VNNI, ONNX Runtime's own kernels saturate for larger ones (ours do not).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from tests.cache.onnx_models import node

LEVELS = onnxruntime.GraphOptimizationLevel
MICROSOFT = "com.microsoft"


@dataclass
class Model:
    """A model under construction; `q` gives constants names."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 0

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        self.count += 1
        name = f"c{self.count}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def params(self, scale: Any, zero: Any, dtype: Any = np.uint8) -> str:
        """Names of a scale and a zero point."""
        return f"{self.constant(scale)} {self.constant(zero, dtype)}"

    def add(self, op: str, inputs: str, output: str, **attrs: Any) -> str:
        """Add a node; returns its output."""
        domain = {"domain": MICROSOFT} if op in CONTRIB else {}
        self.nodes.append(node(op, inputs, output, name=f"{output}/{op}", **domain, **attrs))
        return output

    def fake(self, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> str:
        """x quantised and dequantised."""
        params = self.params(scale, zero, dtype)
        self.add("QuantizeLinear", f"{x} {params}", f"{x}_q")
        return self.add("DequantizeLinear", f"{x}_q {params}", f"{x}_dq")

    def build(self, shape: Sequence[int], outputs: dict[str, Any], opset: int = 17) -> bytes:
        """The file; outputs with their NumPy types."""
        kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for name, kind in outputs.items()}
        graph = helper.make_graph(
            self.nodes, "quantised", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )  # fmt: skip
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        data: bytes = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
        return data


CONTRIB = frozenset(
    {
        "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "QLinearGlobalAveragePool",
        "QLinearAveragePool",
    }
)  # fmt: skip


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """int8 weights that no CPU's ONNX Runtime saturates on."""
    return rng.integers(-64, 64, shape).astype(np.int8)


def runtime(data: bytes, x: np.ndarray, level: Any) -> list[np.ndarray]:
    """ONNX Runtime's outputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"x": x})
    return found


def images(shape: Sequence[int], count: int = 3) -> list[np.ndarray]:
    """Random tensors, each the one before it with a patch changed."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal(shape).astype(np.float32)
    found = [x]
    for _ in range(count - 1):
        x = x.copy()
        top, left = rng.integers(0, shape[2]), rng.integers(0, shape[3])
        patch = x[:, :, top : top + 3, left : left + 2]
        patch += rng.standard_normal(patch.shape).astype(np.float32)
        found.append(x)
    return found


def check_quantised(
    data: bytes, shape: Sequence[int], *, step: float = 0.0, share: float = 0.0, quanta: int = 1, fused: bool = True
) -> Plan:
    """Compile without a tail; bit-equal to ONNX Runtime's optimised result, and to a full recompute in exact mode.

    step : the outputs' scale (0 for outputs in bytes). share, quanta : most of the values that differ from the result
    of ONNX Runtime without optimisation, and by how much. fused : False compares with that within the same bounds only.
    """
    plan = Plan.compile(load_model(data), tuple(shape))
    assert plan.partition.tails == (), plan.partition.reasons
    exact = Session(plan, exact=True)
    for x in images(shape):
        found = exact.push_tensor(x).outputs
        whole = Session(plan, exact=True).push_tensor(x).outputs
        plain, optimised = (runtime(data, x, level) for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL))
        for name, one, other in zip(plan.output_names, plain, optimised, strict=True):
            assert found[name].dtype == one.dtype
            assert found[name].tobytes() == whole[name].tobytes()
            if fused:
                np.testing.assert_array_equal(found[name], other)
            difference = np.abs(found[name].astype(np.float64) - one) / (step or 1)
            assert difference.max() < quanta + 0.01
            assert np.count_nonzero(difference > 0.01) <= share * difference.size
    return plan


def ops(plan: Plan) -> list[str]:
    """The plan's steps."""
    return [planned.step.op for planned in plan.steps]
