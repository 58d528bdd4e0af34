"""Winograd's method in a plan: taken where it should be, right at every size, and bit for bit the same in any list."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import Session
from cache.winograd import transformed, winograd_convolution
from kernels.record import Entry
from tests.cache.engine_check import check_engine
from tests.cache.onnx_models import build, node, weights


def model(inputs: int, outputs: int, height: int, width: int, **attrs: object) -> bytes:
    """A 3x3 convolution with a bias, then ReLU."""
    constants = {"w": weights(outputs, inputs, 3, 3) / np.sqrt(9 * inputs).astype(np.float32), "b": weights(outputs)}
    nodes = [node("Conv", "x w b", "m", "conv", **attrs), node("Relu", "m", "y")]
    return build(nodes, constants, shape=(1, inputs, height, width))


def kinds(plan: Plan) -> list[Entry]:
    return [s.step.method.entry for s in plan.steps if s.step.op == "conv"]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 8), (4, 4), (5, 9), (8, 12), (13, 22)])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 3, 1), (2, 0, 1, 4)])
def test_it_agrees_with_onnxruntime_and_with_itself_at_any_size(size, pads):
    height, width = size
    if height + pads[0] + pads[2] < 3 or width + pads[1] + pads[3] < 3:
        pytest.skip("the window does not fit")
    plan = check_engine(model(40, 52, height, width, pads=list(pads)), (1, 40, height, width), "conv", tolerance=1e-4)
    assert kinds(plan) == [winograd_convolution]
    assert [s.block for s in plan.steps if s.step.op == "conv"] == [4]


def test_it_reads_several_maps_as_one():
    nodes = [
        node("Relu", "x", "a"),
        node("Sigmoid", "x", "s"),
        node("Concat", "a s", "c", axis=1),
        node("Conv", "c w b", "y", "conv", pads=[1, 1, 1, 1]),
    ]
    data = build(nodes, {"w": weights(33, 48, 3, 3) / 20, "b": weights(33)}, shape=(1, 24, 11, 14))
    plan = check_engine(data, (1, 24, 11, 14), "conv", tolerance=1e-4)
    assert kinds(plan) == [winograd_convolution]


@pytest.mark.parametrize(
    "attrs", [{"strides": [2, 2]}, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, {"strides": [1, 2]}], ids=str
)
def test_other_convolutions_stay_direct(attrs):
    plan = Plan.compile(load_model(model(32, 32, 12, 12, **attrs)))
    assert winograd_convolution not in kinds(plan)


def test_narrow_and_grouped_ones_stay_direct():
    assert winograd_convolution not in kinds(Plan.compile(load_model(model(16, 64, 12, 12, pads=[1, 1, 1, 1]))))
    grouped = build(
        [node("Conv", "x w", "y", "conv", group=2, pads=[1, 1, 1, 1])],
        {"w": weights(64, 32, 3, 3)},
        shape=(1, 64, 9, 9),
    )
    assert winograd_convolution not in kinds(Plan.compile(load_model(grouped)))


def test_strict_precision_turns_it_off():
    data = model(64, 48, 20, 20, pads=[1, 1, 1, 1])
    fast, strict = (Plan.compile(load_model(data), policy=Policy(precision=p)) for p in ("fast", "strict"))
    assert kinds(fast) == [winograd_convolution]
    assert winograd_convolution not in kinds(strict)
    assert strict.needs.work == 0
    x = np.random.default_rng(0).standard_normal(fast.input_shape).astype(np.float32)
    a, b = (Session(plan).push_tensor(x).outputs["y"] for plan in (fast, strict))
    assert 0 < np.abs(a - b).max() < 1e-5 * np.abs(b).max()


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision"):
        Policy(precision="quick")  # type: ignore[arg-type]


def test_weights_at_a_point_are_the_sums_of_a_kernel_at_it():
    weight = weights(2, 3, 3, 3).astype(np.float64)
    points = transformed(weight.astype(np.float32)).transpose(2, 3, 0, 1)
    np.testing.assert_allclose(points[0, 0] * 16, weight[:, :, 0, 0])  # the polynomial at 0, over 4 in each direction
    np.testing.assert_allclose(points[5, 5], weight[:, :, 2, 2])  # at infinity
    np.testing.assert_allclose(points[1, 1] * 36, weight.sum((2, 3)))  # at 1, over -6


def test_a_plan_says_what_work_space_it_needs():
    plan = Plan.compile(load_model(model(64, 64, 40, 40, pads=[1, 1, 1, 1])))
    assert plan.needs.work > 36 * 24 * 128
