"""Convolutions in bfloat16: who is offered them, how far they may stray, bits that never depend on a list."""

from __future__ import annotations

import numpy as np
import pytest

from cache import bfloat16
from cache.bfloat16 import bfloat16_convolution, pairs
from cache.onnx_import import load_model
from cache.ops.conv import convolution
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.steps import Cost
from cache.tuning import choose
from kernels.emit_bfloat16 import HAS_BFLOAT16
from tests.cache.closed_loop import largest_excess
from tests.cache.onnx_models import build, node, weights

needs_instructions = pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU has no instructions for bfloat16")
REDUCED = Policy(compute_dtype="bfloat16")


def network(policy: Policy = REDUCED, channels: int = 48) -> Plan:
    """Convolutions on a map of 20 x 24: 1x1, strided, 3x3 of stride 1, grouped, and 1x1 of few channels."""
    nodes = [
        node("Conv", "x a", "p", "pointwise"),
        node("Conv", "p b", "q", "strided", pads=[1] * 4, strides=[2, 2]),
        node("Conv", "q c", "r", "plain", pads=[1] * 4),
        node("Conv", "r d", "s", "grouped", group=2),
        node("Conv", "s e", "t", "narrowing"),
        node("Conv", "t f", "y", "narrow"),
    ]
    constants = {
        "a": weights(64, channels, 1, 1, seed=2) / 7, "b": weights(80, 64, 3, 3, seed=3) / 24,
        "c": weights(64, 80, 3, 3, seed=4) / 27, "d": weights(64, 32, 1, 1, seed=5) / 6,
        "e": weights(16, 64, 1, 1, seed=6) / 8, "f": weights(5, 16, 1, 1, seed=7) / 4,
    }  # fmt: skip
    return Plan.compile(load_model(build(nodes, constants, shape=(1, channels, 20, 24))), policy=policy)


def methods(plan: Plan) -> dict[str, str]:
    return {p.step.name: p.step.method.entry.name for p in plan.steps if p.step.op == "conv"}


def tensor(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 48, 20, 24)).astype(np.float32)


@needs_instructions
def test_wide_pointwise_and_strided_convolutions_are_offered_it():
    found = methods(network())
    reduced = {name for name, entry in found.items() if entry == bfloat16_convolution.name}
    assert reduced == {"pointwise", "strided", "narrowing"}
    assert network().bfloat16_nodes == 3


def test_no_one_else_is(monkeypatch: pytest.MonkeyPatch):
    assert network(Policy()).bfloat16_nodes == 0
    monkeypatch.setattr(bfloat16, "HAS_BFLOAT16", False)
    assert network().bfloat16_nodes == 0
    assert methods(network()) == methods(network(Policy()))


@needs_instructions
def test_what_is_faster_stays():
    plan = network()
    reduced, direct = bfloat16_convolution.name, convolution.name
    slow = {name: {reduced: Cost(900, 9), direct: Cost(10, 1)} for name in ("pointwise", "strided", "narrowing")}
    assert choose(plan, slow).bfloat16_nodes == 0
    slow["strided"] = {reduced: Cost(10, 1), direct: Cost(900, 9)}
    assert choose(plan, slow).bfloat16_nodes == 1


def bound(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How far a 1x1 convolution may be from the true one, [outputs, H, W].

    Of 8 significant bits, inputs and weights are off by a part in 2^8 at most, so products by (1 + 2^-8)^2 - 1; each of
    the n products is rounded to float32 at most once, and so is each sum.
    """
    sizes = np.einsum("oi,ihw->ohw", np.abs(weight[:, :, 0, 0]).astype(np.float64), np.abs(x[0]).astype(np.float64))
    return np.asarray(sizes * ((1 + 2.0**-8) ** 2 - 1 + 2 * x.shape[1] * 2.0**-24))


@needs_instructions
@pytest.mark.parametrize("channels", [32, 48, 75, 256])
def test_a_convolution_is_within_the_rounding_of_its_inputs_and_weights(channels: int):
    weight = weights(40, channels, 1, 1)
    data = build([node("Conv", "x w", "y", "only")], {"w": weight}, shape=(1, channels, 9, 11))
    plan = Plan.compile(load_model(data), policy=REDUCED)
    assert plan.bfloat16_nodes == 1
    x = np.random.default_rng(0).standard_normal((1, channels, 9, 11)).astype(np.float32)
    found = Session(plan).push_tensor(x).outputs["y"][0]
    exact = np.einsum("oi,ihw->ohw", weight[:, :, 0, 0].astype(np.float64), x[0].astype(np.float64))
    error = np.abs(found - exact)
    assert (error <= bound(x, weight)).all()
    assert error.max() > 1e-4, "it was computed in float32"


@needs_instructions
@pytest.mark.parametrize("cache_dtype", ["float32", "float16"])
def test_exact_is_a_full_recompute_bit_for_bit(cache_dtype: str):
    plan = network(Policy(compute_dtype="bfloat16", cache_dtype=cache_dtype))  # type: ignore[arg-type]
    x, session = tensor(0), Session(plan, exact=True, threads=2)
    rng = np.random.default_rng(1)
    for _ in range(6):
        found = session.push_tensor(x)
        assert np.array_equal(found.outputs["y"], Session(plan, exact=True).push_tensor(x).outputs["y"])
        x = x.copy()
        top, left = rng.integers(0, 16), rng.integers(0, 20)
        x[:, :, top : top + 3, left : left + 2] += 1
    assert found.decision == "partial"


@needs_instructions
def test_within_a_budget_nothing_strays_from_its_threshold():
    plan = network()
    session, x = Session(plan), tensor(0)
    for _ in range(3):
        session.push_tensor(x)
        x = x.copy()
        x[:, :, 4:9, 3:8] += 0.2
    assert largest_excess(session) < 1e-4


def test_weights_are_rounded_and_paired():
    values = np.random.default_rng(0).standard_normal((3, 16, 2, 16)).astype(np.float32)
    values[0, 0, 0, :3] = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8 - 2.0**-20]  # ties to even, and above one
    found = pairs(values.reshape(-1), 3, 2).view(np.uint16).reshape(3, 8, 2, 16, 2)
    wide = (found.astype(np.uint32) << 16).view(np.float32)
    for parity in (0, 1):
        error = np.abs(wide[..., parity] - values[:, parity::2])
        assert (error <= np.abs(values[:, parity::2]) * 2.0**-8).all()
    assert wide[0, 0, 0, :3, 0].tolist() == [1.0, 1 + 2.0**-6, -1 - 2.0**-7]
