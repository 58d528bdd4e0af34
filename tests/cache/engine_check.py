"""Runs a small model through Plan and Session in every way there is, and compares each. Test code only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cache.graph import Graph
from cache.onnx_import import extract, import_graph, load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from tests.cache.closed_loop import largest_excess
from tests.cache.interpreter import onnx_run


def check_engine(
    data: bytes,
    shape: Sequence[int],
    op: str,
    *,
    tolerance: float = 1e-5,
    steps: int = 1,
    policy: Policy | None = None,
) -> Plan:
    """Compile, run dense against ONNX Runtime, then patch by patch: exact bit for bit, and within budget.

    op : a step of this op must be in the plan, `steps` times, with no tail.
    """
    model = load_model(data)
    plan = Plan.compile(model, tuple(shape), policy=policy)
    assert plan.partition.tails == (), plan.partition.reasons
    assert [s.step.op for s in plan.steps].count(op) == steps, [s.step.op for s in plan.steps]
    rng = np.random.default_rng(3)
    x = rng.standard_normal(plan.input_shape).astype(np.float32)
    exact, budget = Session(plan, exact=True), Session(plan)
    piece = extract(model, {plan.input_name: plan.input_shape}, plan.output_names)
    _, _, height, width = plan.input_shape
    for _ in range(4):
        found = exact.push_tensor(x)
        for output, value in zip(plan.output_names, onnx_run(piece, {plan.input_name: x}), strict=True):
            assert found.outputs[output].shape == value.shape
            scale = max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(found.outputs[output], value, rtol=0, atol=tolerance * scale)
        for output, value in Session(plan).push_tensor(x).outputs.items():
            assert found.outputs[output].tobytes() == value.tobytes(), output
        budget.push_tensor(x)
        assert largest_excess(budget) < 1e-4
        top, left = rng.integers(0, height), rng.integers(0, width)
        patch = x[:, :, top : top + 3, left : left + 2]
        patch += rng.standard_normal(patch.shape).astype(np.float32) * rng.choice((0.01, 1.0))
    return plan


def imported(data: bytes, shape: Sequence[int]) -> Graph:
    """The model's graph in normal form."""
    return import_graph(load_model(data), tuple(shape))
