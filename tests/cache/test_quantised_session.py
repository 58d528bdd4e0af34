"""Quantised networks over streams: the closed loop in quanta, thresholds that save work, random networks exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from tests.cache.closed_loop import largest_excess
from tests.cache.quantised_models import Model, check_quantised, images, ops, weights

SHAPE = (1, 3, 64, 96)


def network(draw: Any, rng: np.random.Generator, layers: int) -> bytes:
    """Convolutions, sums, concats, pools and look-ups between bytes, in either signedness, drawn."""
    m, dtype = Model(), draw(st.sampled_from([np.uint8, np.int8]))
    low, pick = int(np.iinfo(dtype).min), lambda: draw(st.sampled_from([0, 100, 128, 255]))
    params = m.params(0.02, low + 128, dtype)
    m.add("QuantizeLinear", f"x {params}", "t0")
    tensors: list[tuple[str, str, int]] = [("t0", params, 3)]
    for i in range(1, layers):
        name, found, channels = tensors[draw(st.integers(max(0, len(tensors) - 3), len(tensors) - 1))]
        out, kind = f"t{i}", draw(st.sampled_from(["conv", "conv", "depthwise", "add", "concat", "sigmoid", "pool"]))
        alike = [t for t in tensors if t[2] == channels]
        if kind == "add":
            other = draw(st.sampled_from(alike))
            made = m.params(0.04, low + 128, dtype)
            m.add("QLinearAdd", f"{name} {found} {other[0]} {other[1]} {made}", out)
        elif kind == "concat":
            other = draw(st.sampled_from(tensors))
            made, channels = m.params(0.03, low + pick(), dtype), channels + other[2]
            m.add("QLinearConcat", f"{made} {name} {found} {other[0]} {other[1]}", out, axis=1)
        elif kind == "sigmoid":
            made = m.params(1 / 255, low, dtype)
            m.add("QLinearSigmoid", f"{name} {found} {made}", out)
        elif kind == "pool":
            made = found
            m.add("MaxPool", name, out, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        else:
            groups = channels if kind == "depthwise" else 1
            outputs, size = (
                channels if groups > 1 else draw(st.sampled_from([5, 16, 40])),
                draw(st.sampled_from([1, 3])),
            )
            w = weights(rng, outputs, channels // groups, size, size)
            scale = 1.0 / np.sqrt(37.0**2 * w[0].size)
            made = m.params(0.02, low + pick(), dtype)
            shape = f"{m.constant(w, np.int8)} {m.params(scale, 0, np.int8)}"
            pads = [size // 2] * 4
            m.add("QLinearConv", f"{name} {found} {shape} {made}", out, pads=pads, group=groups)
            channels = outputs
        tensors.append((out, made, channels))
    last, found, _ = tensors[-1]
    m.add("DequantizeLinear", f"{last} {found}", "y")
    return m.build((1, 3, 9, 11), {"y": np.float32})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_random_networks_are_bit_equal_to_onnx_runtime(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Unoptimised, ONNX Runtime runs the same integer kernels.
    check_quantised(network(data.draw, rng, data.draw(st.integers(2, 8))), (1, 3, 9, 11), quanta=10**9, share=1.0)


def chain() -> Plan:
    """Six 3 x 3 convolutions with a sum, from an image."""
    m, rng = Model(), np.random.default_rng(0)
    params = m.params(0.02, 128)
    name, channels = m.add("QuantizeLinear", f"x {params}", "q"), 3
    for i in range(6):
        w = weights(rng, 24, channels, 3, 3)
        found = f"{m.constant(w, np.int8)} {m.params(0.8 / np.sqrt(37.0**2 * w[0].size), 0, np.int8)}"
        made = m.add("QLinearConv", f"{name} {params} {found} {params}", f"c{i}_", pads=[1, 1, 1, 1])
        if i == 3:
            made = m.add("QLinearAdd", f"{made} {params} {name} {params} {params}", "s")
        name, channels = made, 24
    m.add("DequantizeLinear", f"{name} {params}", "y")
    return Plan.compile(load_model(m.build(SHAPE, {"y": np.float32})), SHAPE)


def test_thresholds_hold_in_quanta_and_save_work() -> None:
    plan, rng = chain(), np.random.default_rng(1)
    assert ops(plan).count("q_conv") == 6
    exact, budget = Session(plan, exact=True), Session(plan)
    x, done = images(SHAPE, 1)[0], np.zeros(2)
    for index in range(6):
        right, found = exact.push_tensor(x), budget.push_tensor(x)
        assert largest_excess(budget) < 1e-6
        assert largest_excess(exact) <= 0
        difference = found.outputs["y"] - right.outputs["y"]
        assert np.sqrt(np.mean(difference**2)) < 0.1 * right.outputs["y"].std()
        assert index or not difference.any()
        done += found.compute_fraction, right.compute_fraction
        x = x.copy()
        top, left = rng.integers(0, 50, 2)
        x[:, :, top : top + 10, left : left + 10] += rng.choice([0.02, 0.04])  # a quantum or two
    assert done[0] < 0.9 * done[1]


def test_spreads_are_in_quanta() -> None:
    plan = chain()
    session = Session(plan)
    session.push_tensor(images(SHAPE, 1)[0])
    spreads = [s for s, step in zip(session._spread, plan.steps, strict=True) if step.step.op == "q_conv"]
    assert all(5 < spread < 128 for spread in spreads[:-1])
    assert plan.steps[-2].epsilon == 0, "only the way to the output reads it"


def test_threads_never_show_in_the_bits() -> None:
    plan = chain()
    alone, helped = Session(plan, exact=True), Session(plan, exact=True, threads=2)
    for x in images(SHAPE, 4):
        assert alone.push_tensor(x).outputs["y"].tobytes() == helped.push_tensor(x).outputs["y"].tobytes()
