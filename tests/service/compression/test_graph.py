"""Surgery on files: full ranks change nothing, whatever the file looks like; what is left alone, and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cache.onnx_import import load_model
from service.compression.decompose import factors, pieces
from service.compression.graph import Replacement, Surgeon, file_bytes
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import build, node, weights
from tests.service.compression.small_models import falling, network

X = (np.random.default_rng(0).standard_normal((1, 4, 10, 12))).astype(np.float32)


def low(c_out: int, c_in: int, into: int = 1, out: int = 1) -> np.ndarray:
    """float32[c_out, c_in, 3, 3] of ranks that are so much less than they could be."""
    core = weights(c_out - out, c_in - into, 3, 3)
    turns = weights(c_out, c_out - out, seed=2), weights(c_in, c_in - into, seed=3)
    return np.einsum("oihw,ro,si->rshw", core, *turns).astype(np.float32)


def whole(surgeon: Surgeon, form: str = "tucker2") -> dict[str, Replacement]:
    """Every layer in a form, with all its ranks."""
    found = {}
    for layer in surgeon.layers:
        c_out, c_in, kh, kw = layer.shape
        kind = "pointwise" if kh * kw == 1 else form
        modes = (np.moveaxis(layer.weight, axis, 0).reshape(size, -1) for axis, size in ((1, c_in), (0, c_out)))
        ranks = tuple(int(np.linalg.matrix_rank(mode, rtol=1e-5)) for mode in modes)
        ranks = ranks if kind == "tucker2" else (min(c_in * kh, c_out * kw),)
        parts = tuple(part.astype(np.float32) for part in factors(kind, layer.weight, ranks))
        found[layer.name] = Replacement(pieces(kind, layer.shape, ranks), parts, layer.bias)
    return found


def replaced(data: bytes, form: str = "tucker2", x: np.ndarray = X) -> tuple[Surgeon, bytes]:
    """The model with every layer replaced, the same answer from ONNX Runtime as before."""
    surgeon = Surgeon(load_model(data))
    made = surgeon.rewrite(whole(surgeon, form))
    load_model(made)
    for found, expected in zip(onnx_run(made, {"x": x}), onnx_run(data, {"x": x}), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    return surgeon, made


def op_types(data: bytes) -> list[str]:
    return [item.op_type for item in onnx.load_model_from_string(data).graph.node]


@pytest.mark.parametrize("form", ["tucker2", "spatial"])
@pytest.mark.parametrize("attributes", [
    {}, {"pads": [1, 2, 0, 1]}, {"strides": [2, 1], "pads": [1] * 4}, {"dilations": [2, 3], "pads": [2] * 4},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"},
    {"auto_pad": "NOTSET", "pads": [0, 1, 1, 0]},
], ids=str)  # fmt: skip
def test_windows_are_shared_out(form, attributes):
    data = build([node("Conv", "x w b", "y", **attributes)], {"w": low(6, 4), "b": weights(6)})
    surgeon, made = replaced(data, form)
    assert op_types(made) == ["Conv"] * (3 if form == "tucker2" else 2)
    assert not surgeon.left


@pytest.mark.parametrize(("into", "out", "count"), [(1, 1, 3), (0, 1, 2), (1, 0, 2), (0, 0, 1)])
def test_a_mode_that_is_kept_whole_takes_no_node(into, out, count):
    nodes = [node("Conv", "x w b", "c", "c", strides=[2, 1], pads=[1] * 4), node("Relu", "c", "y")]
    _, made = replaced(build(nodes, {"w": low(6, 4, into, out), "b": weights(6)}))
    assert op_types(made) == ["Conv"] * count + ["Relu"]
    graph = onnx.load_model_from_string(made).graph
    strides = [[list(a.ints) for a in item.attribute if a.name == "strides"] for item in graph.node[:-1]]
    assert sorted(strides) == [[[1, 1]]] * (count - 1) + [[[2, 1]]]
    assert [len(item.input) for item in graph.node[:-1]] == [2] * (count - 1) + [3], "the last one adds the bias"


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_any_opset(opset):
    x = np.random.default_rng(0).standard_normal((1, 3, 24, 32)).astype(np.float32)
    surgeon, made = replaced(network(opset=opset), x=x)
    assert [layer.name for layer in surgeon.layers] == ["first", "second", "third", "last"]
    assert onnx.load_model_from_string(made).opset_import[0].version == opset


def test_weights_of_constant_nodes_and_through_identity():
    kernel = numpy_helper.from_array(low(6, 4))
    nodes = [node("Constant", "", "k", value=kernel), node("Identity", "k", "w"), node("Conv", "x w", "y", "c")]
    _, made = replaced(build(nodes))
    assert op_types(made) == ["Conv"] * 3, "what only the layer read is gone"


def test_weights_kept_as_float16_stay_so():
    data = build(
        [node("Cast", "h", "w", to=onnx.TensorProto.FLOAT), node("Conv", "x w", "y", "c")],
        {"h": falling(6, 4, 1).astype(np.float16)},
    )
    surgeon = Surgeon(load_model(data))
    assert surgeon.layers[0].is_half
    made = surgeon.rewrite(whole(surgeon))
    assert {item.data_type for item in onnx.load_model_from_string(made).graph.initializer} == {
        onnx.TensorProto.FLOAT16
    }
    (found,), (expected,) = onnx_run(made, {"x": X}), onnx_run(data, {"x": X})
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())


def test_initializers_that_are_listed_among_the_inputs():
    proto = onnx.load_model_from_string(build([node("Conv", "x w", "y", "c")], {"w": low(6, 4)}, opset=8))
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (6, 4, 3, 3)))
    _, made = replaced(proto.SerializeToString())
    graph = onnx.load_model_from_string(made).graph
    assert {item.name for item in graph.input} == {"x"} | {item.name for item in graph.initializer}
    assert "w" not in {item.name for item in graph.input}


def test_shared_weights_are_replaced_in_each_place():
    nodes = [node("Conv", "x w", "a", "one", pads=[1] * 4), node("Conv", "a w", "y", "two", pads=[1] * 4)]
    data = build(nodes, {"w": low(4, 4)})
    surgeon, made = replaced(data)
    assert len(surgeon.layers) == 2
    one = surgeon.rewrite({"one": whole(surgeon)["one"]})
    assert "w" in {item.name for item in onnx.load_model_from_string(one).graph.initializer}, "the other reads it"
    assert "w" not in {item.name for item in onnx.load_model_from_string(made).graph.initializer}


def test_batch_normalisation_stays_behind_its_convolution():
    spread = np.abs(weights(6)) + 0.5
    nodes = [node("Conv", "x w", "c", "c"), node("BatchNormalization", "c s b m v", "y")]
    _, made = replaced(build(nodes, {
        "w": low(6, 4), "s": spread, "b": weights(6), "m": weights(6), "v": spread,
    }))  # fmt: skip
    assert op_types(made) == ["Conv"] * 3 + ["BatchNormalization"]


@pytest.mark.parametrize(("attributes", "shape", "bias"), [
    ({"transB": 1}, (5, 12), (5,)), ({}, (12, 5), (1, 5)), ({"alpha": 0.5, "beta": 2.0}, (12, 5), (5,)),
    ({"transB": 1}, (5, 12), (1,)),
], ids=str)  # fmt: skip
def test_matrices_with_bias(attributes, shape, bias):
    nodes = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("MatMul", "f k", "m", "mul"),
             node("Gemm", "m w b", "y", "gemm", **attributes)]  # fmt: skip
    surgeon, _ = replaced(build(nodes, {"k": weights(4, 12), "w": weights(*shape), "b": weights(*bias)}))
    assert [layer.takes_bias for layer in surgeon.layers] == [False, True]


def test_names_that_are_taken_are_not_used():
    nodes = [node("Conv", "x c/0/weight", "c/hidden", "c"), node("Relu", "c/hidden", "y", "c/0/out")]
    surgeon, made = replaced(build(nodes, {"c/0/weight": low(6, 4)}))
    assert surgeon.hidden(surgeon.layers[0]) == "c/hidden_"
    assert "c/hidden_" in {name for item in onnx.load_model_from_string(made).graph.node for name in item.output}


@pytest.mark.parametrize(("nodes", "constants", "reason"), [
    ([node("Conv", "x w", "y", "c", group=4)], {"w": weights(4, 1, 3, 3)}, "a depthwise convolution"),
    ([node("Conv", "x w", "y", "c", group=2)], {"w": weights(4, 2, 3, 3)}, "a grouped convolution"),
    ([node("ConvTranspose", "x w", "y", "c")], {"w": weights(4, 4, 3, 3)}, "a transposed convolution"),
    ([node("Conv", "x w", "y", "c")], {"w": np.zeros((4, 4, 3, 3), np.float32)}, "weights that are all zero"),
    ([node("MatMul", "w x", "y", "c")], {"w": weights(10, 10)}, "its first operand is constant"),
    ([node("MatMul", "x w", "y", "c")], {"w": weights(4, 12, 5)}, "weights of 3 dimensions"),
    ([node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "y", "c")], {}, "no constants"),
])  # fmt: skip
def test_what_is_left_alone_has_a_reason(nodes, constants, reason):
    surgeon = Surgeon(load_model(build(nodes, constants)))
    assert not surgeon.layers
    assert reason in surgeon.left["c"]


def test_nothing_else_of_the_file_changes():
    model = load_model(network())
    model.proto.metadata_props.add(key="labels", value="a,b")
    surgeon = Surgeon(model)
    same = onnx.load_model_from_string(surgeon.rewrite({}))
    assert same == model.proto
    one = onnx.load_model_from_string(surgeon.rewrite({"third": whole(surgeon)["third"]}))
    assert one.metadata_props == model.proto.metadata_props
    assert (one.graph.input, one.graph.output) == (model.proto.graph.input, model.proto.graph.output)
    assert file_bytes(model) == len(model.proto.SerializeToString())


def test_constants_behind_many_ops_are_left_alone():
    nodes = [node("Identity", "k" if not n else f"w{n - 1}", f"w{n}") for n in range(40)]
    data = build([*nodes, node("Conv", "x w39", "y", "c")], {"k": low(6, 4)})
    assert "no constants" in Surgeon(load_model(data)).left["c"]
