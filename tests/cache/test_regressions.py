"""Defects found by review, each with the smallest model or stream that showed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest

from cache.onnx_import import ModelError, load_model
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import Session
from tests.cache.failures import failing_after
from tests.cache.onnx_models import build, node, weights

SHAPE = (1, 4, 10, 12)


def compare(model: bytes) -> Mapping[str, Any]:
    """Dense outputs, held against ONNX Runtime's."""
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    x[0, 0, 0, 0] = 0
    runtime = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [item.name for item in runtime.get_outputs()]
    outputs = Session(Plan.compile(load_model(model)), exact=True).push_tensor(x).outputs
    for name, expected in zip(names, runtime.run(names, {"x": x}), strict=True):
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-5, atol=1e-5)
    return outputs


def test_an_output_that_copies_a_tensor_which_a_tail_reads() -> None:
    """The copy took its source's name, by which the tail asks for it: no tail could be cut out."""
    nodes = [node("Conv", "x w", "c"), node("Identity", "c", "y"), node("Softmax", "c", "z", axis=1)]
    compare(build(nodes, {"w": weights(3, 4, 1, 1)}, outputs=["y", "z"]))


def test_a_pad_before_a_foreign_node_with_pads_of_its_own() -> None:
    """Folding the zero pad zipped its four sizes with the eight of the reflecting one: ValueError."""
    zeros, mirror = [0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 2, 2, 0, 0, 2, 2]
    nodes = [node("Pad", "x", "p", pads=zeros), node("Pad", "p", "y", mode="reflect", pads=mirror)]
    compare(build(nodes, opset=10))


@pytest.mark.parametrize("op", ["Div", "BatchNormalization"])
def test_a_factor_beyond_float32_stays_out_of_the_cache(op: str) -> None:
    """The factor was finite in float64 and infinite in the plan: 0 / tiny gave NaN."""
    if op == "Div":
        compare(build([node("Div", "x t", "y")], {"t": np.float32(1e-40)}))
        return
    parts = {"s": np.full(4, 1e38, np.float32), "b": np.zeros(4, np.float32), "m": np.zeros(4, np.float32),
             "v": np.full(4, 1e-30, np.float32)}  # fmt: skip
    graph = Plan.compile(load_model(build([node("BatchNormalization", "x s b m v", "y", epsilon=0.0)], parts))).graph
    assert graph.nodes[0].is_foreign


def test_a_frame_after_an_error_inside_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks left by the step that failed made the keyframe look unwritten: its outputs stayed the old ones."""
    plan = Plan.compile(load_model(build([node("Conv", "x w", "c"), node("GlobalMaxPool", "c", "y")],
                                         {"w": weights(3, 4, 1, 1)}, outputs=["c", "y"])))  # fmt: skip
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (3, 10, 12, 4), dtype=np.uint8)
    for steps_done in range(1, len(plan.steps) + 1):
        session = Session(plan, exact=True)
        session.push(frames[0])
        with monkeypatch.context() as patch:
            patch.setattr("cache.session.run_frame", failing_after(steps_done))
            with pytest.raises(MemoryError):
                session.push(frames[1])
        result, fresh = session.push(frames[2]), Session(plan, exact=True).push(frames[2])
        assert result.decision == "keyframe"
        for name, expected in fresh.outputs.items():
            assert np.array_equal(result.outputs[name], expected)


def test_the_spread_of_a_map_with_spare_lanes() -> None:
    """Lanes that hold no channel were counted as zeros: a map of one channel seemed many times as wide as it is."""
    bias = np.array([100], np.float32)
    nodes = [node("Conv", "x w b", "y"), node("Conv", "y v", "z")]
    plan = Plan.compile(
        load_model(build(nodes, {"w": weights(1, 4, 1, 1), "b": bias, "v": weights(1, 1, 1, 1)}, outputs=["z"]))
    )
    session = Session(plan)
    session.push(np.random.default_rng(2).integers(0, 256, (10, 12, 4), dtype=np.uint8))
    stored = plan.maps[plan.steps[0].step.target].view(session._state.arena)[0, ::2, ::2, 0]
    assert session._spread[0] == pytest.approx(float(stored.std()), rel=1e-4)


def test_a_map_that_no_step_reads_has_no_threshold() -> None:
    """A threshold there saves no work and blurs the output."""
    nodes = [node("Conv", "x w", "y"), node("Conv", "y v", "z")]
    plan = Plan.compile(load_model(build(nodes, {"w": weights(4, 4, 1, 1), "v": weights(4, 4, 1, 1)}, outputs=["z"])))
    assert [planned.epsilon > 0 for planned in plan.steps] == [True, False]


def test_feature_maps_that_no_machine_holds_are_refused() -> None:
    """A padding of a million compiled, and a session then asked for 44 TiB."""
    wide = node("Conv", "x w", "y", pads=[10**6] * 4, dilations=[10**6] * 2, kernel_shape=[3, 3])
    with pytest.raises(ModelError, match="expected at most 4 GiB of feature maps"):
        Plan.compile(load_model(build([wide], {"w": weights(1, 4, 3, 3)})))


def test_rules_for_nodes_that_do_not_exist_are_refused() -> None:
    """A misspelt name was ignored."""
    model = load_model(build([node("Conv", "x w", "y")], {"w": weights(1, 4, 1, 1)}))
    with pytest.raises(ValueError, match="expected rules for nodes that are cached, got nobody"):
        Plan.compile(model, policy=Policy(nodes={"nobody": Level(1, 0.1, 1)}))


def test_what_is_no_array_is_a_bad_frame() -> None:
    """AttributeError came instead of the promised ValueError."""
    session = Session(Plan.compile(load_model(build([node("Conv", "x w", "y")], {"w": weights(1, 4, 1, 1)}))))
    with pytest.raises(ValueError, match=r"expected a frame uint8\[10, 12, 4\], got list"):
        session.push([[1]])


def test_a_sum_with_what_a_convolution_makes_of_the_image() -> None:
    """The convolution did the sum by itself, was computed where only the other operand was written, and read there what
    another stream had left in the thread's work space."""
    wide = [("x a", "p"), *((f"{x} b", y) for x, y in zip("pqrs", "qrst", strict=True))]
    nodes = [node("Conv", i, o, pads=[8] * 4, dilations=[2, 2]) for i, o in wide]
    nodes += [node("Conv", "x c", "u"), node("Add", "u t", "y")]
    constants = {"a": weights(8, 3, 9, 9) / 16, "b": weights(8, 8, 9, 9) / 25, "c": weights(8, 3, 1, 1)}
    model = build(nodes, constants, shape=(1, 3, 64, 160))
    plan, rng = Plan.compile(load_model(model)), np.random.default_rng(3)
    assert plan.maps[0].outside
    session, other = Session(plan, exact=True), Session(plan, exact=True)
    frame = rng.integers(0, 256, (64, 160, 3), dtype=np.uint8)
    session.push(frame)
    other.push(255 - frame)
    frame[30:34, 78:82] = 0
    result, fresh = session.push(frame), Session(plan, exact=True).push(frame)
    assert result.decision == "partial"
    assert result.outputs["y"].tobytes() == fresh.outputs["y"].tobytes()
