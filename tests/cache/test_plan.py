"""What a Plan says of itself, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from cache.onnx_import import ModelError, load_model
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import Session
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import build, node, weights

CONSTANTS = {"w": weights(8, 3, 3, 3), "v": weights(6, 8, 1, 1)}
NODES = [
    node("Conv", "x w", "a", "first", strides=[2, 2], pads=[1, 1, 1, 1]),
    node("Relu", "a", "r"),
    node("MaxPool", "r", "p", "pool", kernel_shape=[2, 2], strides=[2, 2]),
    node("Conv", "p v", "y", "second"),
]


def network(shape=(1, 3, 32, 48), outputs=("y",), extra=()) -> bytes:
    return build([*NODES, *extra], CONSTANTS, shape=shape, outputs=outputs)


def test_sizes_and_work():
    plan = Plan.compile(load_model(network()))
    assert (plan.input_name, plan.input_shape, plan.output_names) == ("x", (1, 3, 32, 48), ("y",))
    assert (plan.channels, plan.height, plan.width) == (3, 32, 48)
    assert [s.step.macs for s in plan.steps] == [16 * 24 * 8 * 27, 0, 8 * 12 * 6 * 8]
    assert plan.total_macs == 16 * 24 * 8 * 27 + 8 * 12 * 6 * 8
    assert plan.arena_bytes == 4 * plan.arena_elements > 4 * 32 * 48 * 3


def test_the_output_may_be_any_tensor_of_the_file():
    plan = Plan.compile(load_model(network()), outputs=["p"])
    assert plan.output_names == ("p",)
    assert [s.step.op for s in plan.steps] == ["conv", "max_pool"]
    assert Session(plan).push(np.zeros((32, 48, 3), np.uint8)).outputs["p"].shape == (1, 8, 8, 12)


def test_a_dynamic_file_runs_at_any_size_and_needs_one():
    model = load_model(network(shape=(1, 3, "h", "w")))
    with pytest.raises(ModelError, match=r"fixed size, or a size given; got \[\(1, 3, None, None\)\]"):
        Plan.compile(model)
    assert Plan.compile(model, (1, 3, 64, 16)).input_shape == (1, 3, 64, 16)
    with pytest.raises(ModelError, match=r"expected an input of shape .*got \(1, 4, 64, 16\)"):
        Plan.compile(model, (1, 4, 64, 16))


def test_several_inputs_are_refused():
    graph = helper.make_graph(
        [node("Add", "a b", "y")],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 8, 8)) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 8, 8))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = load_model(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"expected a model with one input \(an image\), got 2: \['a', 'b'\]"):
        Plan.compile(model, (1, 3, 8, 8))


def test_the_table_turns_bytes_into_numbers():
    table = ((np.arange(256, dtype=np.float32)[:, None] - [100, 110, 120]) / [50, 60, 70]).astype(np.float32)
    plan = Plan.compile(load_model(network()), normalisation=table)
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    x = np.stack([table[frame[:, :, c], c] for c in range(3)])[None]
    (expected,) = onnx_run(network(), {"x": x})
    np.testing.assert_allclose(Session(plan).push(frame).outputs["y"], expected, atol=1e-4)
    by_tensor = Session(plan).push_tensor(x).outputs["y"]
    assert by_tensor.tobytes() == Session(plan).push(frame).outputs["y"].tobytes()
    plain = Plan.compile(load_model(network()))
    (expected,) = onnx_run(network(), {"x": frame.transpose(2, 0, 1)[None].astype(np.float32)})
    np.testing.assert_allclose(Session(plain).push(frame).outputs["y"], expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", [(256, 1), (255, 3), (256,)])
def test_a_table_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected a normalisation table float32\[256, 3\], got shape"):
        Plan.compile(load_model(network()), normalisation=np.zeros(shape, np.float32))


def test_thresholds_and_blocks_follow_the_policy():
    policy = Policy(levels=(Level(2, 0.1, 4), Level(float("inf"), 0.3, 2)), nodes={"second": Level(0, 0.7, 1)})
    last = node("MaxPool", "y", "z", name="last", kernel_shape=[2, 2])
    plan = Plan.compile(load_model(network(outputs=("z",), extra=[last])), policy=policy)
    rules = {s.step.name: (s.epsilon, s.block) for s in plan.steps}
    assert rules == {"first": (0.1, 4), "pool": (0.0, 2), "second": (0.7, 1), "last": (0.0, 2)}


def test_an_image_that_only_convolutions_read_is_interleaved():
    assert Plan.compile(load_model(network())).maps[0].is_interleaved
    pooled = build([node("MaxPool", "x", "y", kernel_shape=[2, 2])], shape=(1, 3, 8, 8))
    assert not Plan.compile(load_model(pooled)).maps[0].is_interleaved


def test_taps_and_tails_and_outputs_that_depend_on_nothing():
    extra = [
        node("Flatten", "y", "f"),
        node("Softmax", "f", "s"),
        node("Constant", "", "k", value_floats=[1.0, 2.0]),
        node("Identity", "k", "fixed"),
    ]
    data = network(outputs=("s", "r", "fixed"), extra=extra)
    plan = Plan.compile(load_model(data))
    assert set(plan.taps) == {"y", "r"}
    assert [(tail.inputs, tail.outputs) for tail in plan.tails] == [(("y",), ("s",))]
    assert plan.constants["fixed"].tolist() == [1.0, 2.0]
    x = weights(1, 3, 32, 48)
    found = Session(plan).push_tensor(x).outputs
    for name, value in zip(("s", "r", "fixed"), onnx_run(data, {"x": x}), strict=True):
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_a_plan_is_shared_by_streams_that_know_nothing_of_each_other():
    plan = Plan.compile(load_model(network()))
    one, other = Session(plan, exact=True), Session(plan, exact=True)
    a, b = (np.full((32, 48, 3), value, np.uint8) for value in (10, 200))
    first = one.push(a).outputs["y"].copy()
    other.push(b)
    assert one.push(a).decision == "reuse"
    assert one.push(a).outputs["y"].tobytes() == first.tobytes()


def test_what_only_a_light_last_step_reads_has_no_threshold():
    """Class scores and boxes may share the map: a threshold would blur one by the other's spread, and save nothing."""
    nodes = [node("Conv", "x w", "m", "head"), node("Conv", "m k", "y", "deep", group=4, pads=[1] * 4)]
    constants = {"w": weights(4, 3, 1, 1), "k": weights(4, 1, 3, 3)}
    model = load_model(build(nodes, constants, shape=(1, 3, 8, 8)))
    assert [s.epsilon for s in Plan.compile(model).steps] == [0, 0]
    ruled = Plan.compile(model, policy=Policy(nodes={"head": Level(1, 0.3, 1)}))
    assert [s.epsilon for s in ruled.steps] == [0.3, 0]
    nodes.append(node("MaxPool", "y", "z", "last", kernel_shape=[2, 2]))
    read = Plan.compile(load_model(build(nodes, constants, shape=(1, 3, 8, 8), outputs=["z"])))
    assert [s.epsilon > 0 for s in read.steps] == [True, True, False]
