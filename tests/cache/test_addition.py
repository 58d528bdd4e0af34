"""Convolutions that add: the same numbers as with a step for the sum, in every place where the two can meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.numpy_helper import to_array

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import Session
from tests.cache.engine_check import check_engine
from tests.cache.onnx_models import build, node, weights

SHAPE = (1, 3, 21, 26)


def residual(
    before: str | None = None, after: str | None = None, kernel: int = 3, channels: int = 40, swap: bool = False,
    outputs: list[str] | None = None, **attrs: object,
) -> bytes:  # fmt: skip
    """A first convolution x0, another of it, `before`, the sum with x0, `after`, and one that reads the result."""
    constants = {
        "w0": weights(channels, 3, 3, 3), "b0": weights(channels), "b1": weights(channels),
        "w1": weights(channels, channels, kernel, kernel) / 8, "w2": weights(9, channels, 1, 1),
    }  # fmt: skip
    pad = kernel // 2
    nodes = [
        node("Conv", "x w0 b0", "x0", pads=[1] * 4),
        node("Conv", "x0 w1 b1", "c", "inner", pads=[pad] * 4, **attrs),
    ]  # fmt: skip
    inner = "c"
    if before:
        nodes.append(node(before, "c", "d"))
        inner = "d"
    nodes.append(node("Add", f"x0 {inner}" if swap else f"{inner} x0", "s", "sum"))
    last = "s"
    if after:
        nodes.append(node(after, "s", "t"))
        last = "t"
    return build([*nodes, node("Conv", f"{last} w2", "y")], constants, shape=SHAPE, outputs=outputs or ["y"])


def ops(plan: Plan) -> list[str]:
    """What its steps are."""
    return [s.step.op for s in plan.steps]


@pytest.mark.parametrize(
    ("before", "after"), [(None, None), (None, "Relu"), ("Relu", None), ("Sigmoid", None), (None, "Sigmoid")], ids=str
)
@pytest.mark.parametrize(("kernel", "channels"), [(1, 40), (3, 40), (3, 16), (5, 20)])
def test_it_adds_before_or_after_it_activates(before, after, kernel, channels):
    plan = check_engine(residual(before, after, kernel, channels), SHAPE, "conv", steps=3)
    assert ops(plan) == ["conv"] * 3
    assert [m.name for m in plan.maps].count("c") == 0, "what is added to is not stored"
    assert plan.steps[1].step.name == "inner"


def test_which_operand_comes_first_does_not_matter():
    assert ops(check_engine(residual(swap=True), SHAPE, "conv", steps=3)) == ["conv"] * 3


def test_a_block_of_a_concatenation_can_be_added():
    constants = {"a": weights(16, 3, 3, 3), "b": weights(32, 3, 3, 3), "w": weights(32, 48, 1, 1) / 8}
    nodes = [
        node("Conv", "x a", "p", pads=[1] * 4), node("Conv", "x b", "q", pads=[1] * 4),
        node("Concat", "p q", "j", axis=1), node("Conv", "j w", "c"), node("Add", "c q", "y"),
    ]  # fmt: skip
    plan = check_engine(build(nodes, constants, shape=SHAPE), SHAPE, "conv", steps=2)
    assert ops(plan) == ["conv", "conv"], "the first two are one, of which a slice is added"


@pytest.mark.parametrize("channels", [3, 4, 7])
def test_the_image_can_be_added(channels):
    nodes, shape = [node("Conv", "x w", "a"), node("Add", "a x", "y")], (1, channels, 9, 8)
    data = build(nodes, {"w": weights(channels, channels, 1, 1)}, shape=shape)
    assert ops(check_engine(data, shape, "conv")) == ["conv"]


def test_a_view_that_fills_no_whole_blocks_is_added_by_a_step():
    constants = {"a": weights(24, 3, 3, 3), "w": weights(12, 24, 1, 1) / 8, "split": np.array([12, 12])}
    nodes = [
        node("Conv", "x a", "p", pads=[1] * 4), node("Conv", "p w", "c"), node("Split", "p split", "q r", axis=1),
        node("Add", "c r", "y"),
    ]  # fmt: skip
    assert "add" in ops(check_engine(build(nodes, constants, shape=SHAPE), SHAPE, "add"))


@pytest.mark.parametrize(("outputs", "policy"), [
    (["y", "c"], Policy()), (["y"], Policy(nodes={"inner": Level(float("inf"), 0.1, 1)})),
    (["y"], Policy(nodes={"sum": Level(float("inf"), 0.1, 1)})),
], ids=["handed out", "rule of the convolution", "rule of the sum"])  # fmt: skip
def test_what_must_be_stored_is_added_by_a_step(outputs, policy):
    assert "add" in ops(Plan.compile(load_model(residual(outputs=outputs)), policy=policy))


def test_two_activations_need_two_steps():
    assert "add" in ops(check_engine(residual("Relu", "Sigmoid"), SHAPE, "add"))


def test_strides_and_groups_are_kept():
    constants = {"a": weights(32, 3, 3, 3), "w": weights(32, 32, 3, 3) / 8, "v": weights(32, 32, 1, 1) / 4}
    nodes = [
        node("Conv", "x a", "p", pads=[1] * 4), node("Conv", "p w", "c", strides=[2, 2], pads=[1] * 4),
        node("Conv", "p v", "d", strides=[2, 2]), node("Add", "c d", "s"), node("Relu", "s", "y"),
    ]  # fmt: skip
    assert ops(check_engine(build(nodes, constants, shape=SHAPE), SHAPE, "conv", steps=3)) == ["conv"] * 3


@pytest.mark.parametrize("swap", [False, True])
def test_maps_kept_as_float16_are_added_before_they_are_rounded(swap):
    data = residual(kernel=1, swap=swap, outputs=["x0", "s"])
    plan = Plan.compile(load_model(data), policy=Policy(cache_dtype="float16"))
    assert "add" not in ops(plan)
    outputs = Session(plan).push(np.random.default_rng(3).integers(0, 256, (21, 26, 3), np.uint8)).outputs
    made = {array.name: to_array(array).astype(np.float64) for array in load_model(data).proto.graph.initializer}
    x0 = np.array(outputs["x0"][0], np.float64)
    exact = np.einsum("oi,ihw->ohw", made["w1"][:, :, 0, 0], x0) + made["b1"][:, None, None] + x0
    nearest = exact.astype(np.float16)
    once = (outputs["s"][0] == nearest).mean()
    twice = ((exact - x0).astype(np.float16).astype(np.float64) + x0).astype(np.float16)
    assert once > 0.99 > 0.9 > (twice == nearest).mean()


@pytest.mark.parametrize("cache_dtype", ["float32", "float16"])
@pytest.mark.parametrize(("before", "after", "kernel"), [(None, "Relu", 3), ("Sigmoid", None, 3), (None, None, 1)])
def test_partial_frames_are_those_of_a_full_recompute(before, after, kernel, cache_dtype):
    plan = Plan.compile(load_model(residual(before, after, kernel)), policy=Policy(cache_dtype=cache_dtype))
    assert ops(plan) == ["conv"] * 3
    rng = np.random.default_rng(1)
    session, frame = Session(plan, exact=True), rng.integers(0, 256, (21, 26, 3), np.uint8)
    session.push(frame)
    for top, left in ((0, 0), (9, 14), (16, 20), (3, 8)):
        frame = frame.copy()
        frame[top : top + 4, left : left + 5] ^= 255
        result: Any = session.push(frame)
        assert result.decision == "partial"
        whole = Session(plan, exact=True).push(frame)
        assert result.outputs["y"].tobytes() == whole.outputs["y"].tobytes()
