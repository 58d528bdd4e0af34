"""Models without one image input run whole in ONNX Runtime, and only when an input changed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from cache.onnx_import import ModelError, OnnxModel, load_model
from cache.pass_through import PassThrough, obstacle, open_plan, same_bits
from cache.plan import Plan
from cache.session import Session
from cache.tail import TailError
from tests.cache.onnx_models import build, node, onnx_run, weights

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, inputs, outputs=("y",), constants=(), opset=17) -> OnnxModel:
    """A model with inputs name -> (element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "several",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_value_info(name, helper.make_tensor_type_proto(FLOAT, None)) for name in outputs],
        list(constants),
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return load_model(proto.SerializeToString())


def two_inputs() -> OnnxModel:
    nodes = [node("Gather", "a index", "g", axis=1), node("Relu", "g", "y")]
    return model(nodes, {"a": (FLOAT, (2, None)), "index": (INT64, (3,))})


def test_several_inputs_give_the_answer_of_onnxruntime():
    found = PassThrough(two_inputs())
    assert (found.input_names, found.output_names) == (("a", "index"), ("y",))
    feeds = {"a": weights(2, 7), "index": np.array([6, 0, 2], np.int64)}
    result = found.run(feeds)
    assert not result.reused
    np.testing.assert_array_equal(result.outputs["y"], np.maximum(feeds["a"][:, [6, 0, 2]], 0))
    (expected,) = onnx_run(two_inputs().proto.SerializeToString(), feeds)
    assert result.outputs["y"].tobytes() == expected.tobytes()


def test_outputs_are_reused_only_for_the_same_bits():
    found = PassThrough(two_inputs())
    a, index = weights(2, 7), np.array([6, 0, 2], np.int64)
    first = found.run({"a": a, "index": index})
    again = found.run({"a": a.copy(), "index": index.copy()})
    assert again.reused
    assert again.outputs["y"] is first.outputs["y"]
    kept = first.outputs["y"].copy()
    a[0, 6] += 1  # the caller's own array: the engine keeps a copy
    moved = found.run({"a": a, "index": index})
    assert not moved.reused
    assert moved.outputs["y"][0, 0] == max(a[0, 6], 0)
    np.testing.assert_array_equal(first.outputs["y"], kept)
    assert not found.run({"a": weights(2, 9), "index": index}).reused
    assert not found.run({"a": a, "index": index[::-1]}).reused
    found.reset()
    assert not found.run({"a": a, "index": index[::-1]}).reused


def test_outputs_are_read_only():
    result = PassThrough(two_inputs()).run({"a": weights(2, 7), "index": np.zeros(3, np.int64)})
    with pytest.raises(ValueError, match="read-only"):
        result.outputs["y"][:] = 0


def test_wrong_names_and_shapes():
    found = PassThrough(two_inputs())
    good = {"a": weights(2, 7), "index": np.zeros(3, np.int64)}
    found.run(good)
    with pytest.raises(ValueError, match=r"expected the inputs a, index; got a$"):
        found.run({"a": weights(2, 7)})
    assert found.run(good).reused
    with pytest.raises(TailError, match="ONNX Runtime failed on y"):
        found.run({"a": weights(3, 7), "index": np.zeros(3, np.int64)})
    assert not found.run(good).reused


def test_an_op_that_answers_at_random_is_never_answered_from_memory():
    found = PassThrough(model([node("RandomNormalLike", "a", "r"), node("Add", "a r", "y")], {"a": (FLOAT, (50,))}))
    feeds = {"a": weights(50)}
    first, second = found.run(feeds), found.run(feeds)
    assert not first.reused
    assert not second.reused
    assert first.outputs["y"].tobytes() != second.outputs["y"].tobytes()


def test_same_bits():
    nan = np.array([np.nan], np.float32)
    assert same_bits(nan, nan.copy())
    assert not same_bits(np.array([0.0]), np.array([-0.0]))
    assert not same_bits(np.zeros(2, np.int32), np.zeros(2, np.float32))
    assert not same_bits(np.zeros((1, 2)), np.zeros((2, 1)))
    assert same_bits(np.array(["a", "b"], object), np.array(["a", "b"], object))
    assert not same_bits(np.array(["a", "b"], object), np.array(["a", "c"], object))
    assert same_bits(np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T))


def test_a_batch_runs_whole():
    data = build([node("Relu", "x", "y")], shape=(3, 2, 4, 4))
    found = open_plan(load_model(data))
    assert isinstance(found, PassThrough)
    assert found.reason == "expected one image at a time, got a batch of 3 for 'x'"
    x = weights(3, 2, 4, 4)
    np.testing.assert_array_equal(found.run({"x": x}).outputs["y"], np.maximum(x, 0))


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((1, 3, 8), FLOAT, "expected an image (1, C, H, W), got 3 dimensions for 'x'"),
        ((1, 3, 8, 8), TensorProto.DOUBLE, "expected a float32 image, got float64 for 'x'"),
        ((2, 3, 8, 8), FLOAT, "expected one image at a time, got a batch of 2 for 'x'"),
        ((1, 3, 8, 8), FLOAT, None),
        (("n", 3, "h", "w"), FLOAT, None),
    ],
)
def test_obstacle(shape, dtype, reason):
    assert obstacle(load_model(build([node("Relu", "x", "y")], shape=shape, dtype=dtype))) == reason


def test_obstacle_of_several_inputs_and_of_none():
    assert obstacle(two_inputs()) == "expected one input (an image), got 2: a, index"
    constant = model([node("RandomNormal", "", "y", shape=[2])], {})
    assert obstacle(constant) == "expected one input (an image), got 0: none"
    assert PassThrough(constant).run({}).outputs["y"].shape == (2,)


def test_obstacle_of_an_unknown_rank_depends_on_a_given_size():
    data = load_model(build([node("Relu", "x", "y")], shape=None))
    assert obstacle(data) == "expected an image (1, C, H, W), got any rank for 'x'"
    assert obstacle(data, (1, 4, 6, 6)) is None


def test_a_model_with_an_image_gets_a_plan():
    found = open_plan(load_model(build([node("Conv", "x w", "y")], {"w": weights(5, 4, 3, 3)})))
    assert isinstance(found, Plan)
    assert Session(found).push(np.zeros((10, 12, 4), np.uint8)).outputs["y"].shape == (1, 5, 8, 10)


def test_a_size_that_is_not_known_is_no_reason_to_pass_through():
    data = build([node("Relu", "x", "y")], shape=("n", 3, "h", "w"))
    with pytest.raises(ModelError, match="of fixed size, or a size given"):
        open_plan(load_model(data))


def test_sequences_are_refused():
    nodes = [node("SplitToSequence", "a", "y", axis=0)]
    graph = helper.make_graph(
        nodes,
        "sequence",
        [helper.make_tensor_value_info("a", FLOAT, (4,))],
        [helper.make_tensor_sequence_value_info("y", FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(
        ModelError, match=r"expected tensors for inputs and outputs, got seq\(tensor\(float\)\) for 'y'"
    ):
        PassThrough(load_model(proto.SerializeToString()))


def test_what_onnxruntime_refuses_is_refused_with_its_reason():
    """Relu of 16-bit integers is valid ONNX that ONNX Runtime has no kernel for."""
    graph = helper.make_graph(
        [node("Relu", "a", "y")],
        "refused",
        [helper.make_tensor_value_info("a", TensorProto.INT16, (4,))],
        [helper.make_tensor_value_info("y", TensorProto.INT16, (4,))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(TailError, match=r"ONNX Runtime cannot run this model: .*Relu"):
        PassThrough(load_model(proto.SerializeToString()))
