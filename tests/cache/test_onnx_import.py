import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cache.onnx_import import ModelError, extract, import_graph, load_model
from cache.plan import Plan
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import SHAPE, build, check, node, ops, weights
from tests.cache.test_proto import branch

RELU = [node("Relu", "x", "y")]


def test_a_model_from_a_path_and_from_bytes(tmp_path: Path) -> None:
    data = build(RELU)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(data)
    for source in (path, str(path), data):
        model = load_model(source)
        assert model.opset == 17
        assert model.outputs == ("y",)
        assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert load_model(path).name == "tiny"
    assert load_model(path).path == path
    assert load_model(data).path is None


def test_metadata() -> None:
    proto = onnx.load_model_from_string(build(RELU))
    helper.set_model_props(proto, {"names": "{0: 'cat'}"})
    assert load_model(proto.SerializeToString()).metadata == {"names": "{0: 'cat'}"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ONNX model.*empty file"),
        (b"this is only some text", "not an ONNX model.*text starting with 'this is only"),
        (b"\x00\x01\x02" * 50, "not an ONNX model.*150 bytes"),
        (b"\x08\x07", "not an ONNX model"),
        (build(RELU)[:40], "not an ONNX model"),
    ],
)
def test_files_that_are_no_models(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(data)


def test_limits(tmp_path: Path) -> None:
    data = build(RELU * 1)
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=f"at most 10 bytes, got {len(data)}"):
        load_model(data, max_bytes=10)
    with pytest.raises(ModelError, match="at most 10 bytes"):
        load_model(path, max_bytes=10)
    with pytest.raises(ModelError, match="at most 0 nodes, got 1"):
        load_model(data, max_nodes=0)


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets(opset: int) -> None:
    with pytest.raises(ModelError, match=rf"expected ONNX opset 7 to .*, got {opset}"):
        load_model(build(RELU, opset=opset))


def test_unknown_ops() -> None:
    with pytest.raises(ModelError, match=r"unknown op 'Teleport' \(node 'beam'\): not in opset 17"):
        load_model(build([node("Teleport", "x", "y", name="beam")]))
    with pytest.raises(ModelError, match=r"unknown op 'HardSwish'.*opset 11"):
        load_model(build([node("HardSwish", "x", "y")], opset=11))


def with_domain(item: onnx.NodeProto) -> bytes:
    proto = onnx.load_model_from_string(build([item]))
    proto.opset_import.append(helper.make_opsetid(item.domain, 1))
    return proto.SerializeToString()


def test_unknown_domains() -> None:
    with pytest.raises(ModelError, match=r"unknown op in domain com.example.*Warp"):
        load_model(with_domain(node("Warp", "x", "y", domain="com.example")))


def test_domains_of_onnx_runtime_stay_foreign() -> None:
    graph = check(with_domain(node("QuickGelu", "x", "y", domain="com.microsoft")))
    assert ops(graph) == ["onnx.com.microsoft.QuickGelu"]
    assert "y" not in graph.types


def test_what_the_checker_says_is_passed_on() -> None:
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load_model(build([node("Relu", "nowhere", "y")]))
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load_model(build([node("Relu", "x", "y", slope=3)]))


def test_broken_weights() -> None:
    proto = onnx.load_model_from_string(build([node("Mul", "x k", "y")], {"k": weights(4, 1, 1)}))
    proto.graph.initializer[0].dims[0] = 1 << 40
    with pytest.raises(ModelError):
        load_model(proto.SerializeToString())


def test_functions_are_inlined() -> None:
    proto = onnx.load_model_from_string(build([node("Twice", "x", "y", domain="local")]))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    body = [node("Add", "a a", "b")]
    function = helper.make_function("local", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    proto.functions.append(function)
    assert ops(check(proto.SerializeToString())) == ["add"]


def test_weights_listed_as_inputs() -> None:
    proto = onnx.load_model_from_string(build([node("Conv", "x w", "y")], {"w": weights(3, 4, 1, 1)}))
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (3, 4, 1, 1)))
    assert ops(check(proto.SerializeToString())) == ["conv"]


def test_captured_tensors_belong_to_the_tail() -> None:
    nodes = [
        node("Relu", "x", "outer"),
        node("Sigmoid", "x", "other"),
        node("ReduceMax", "x", "top", keepdims=0),
        node("Greater", "top zero", "cond"),
        branch(),
        node("Neg", "z", "y"),
    ]
    graph = check(build(nodes, {"zero": np.float32(0)}))
    choice = next(item for item in graph.nodes if item.op == "onnx.If")
    assert set(choice.inputs) == {"cond", "outer", "other"}


def test_more_than_one_input() -> None:
    proto = onnx.load_model_from_string(build([node("Relu", "x", "r"), node("Add", "r scale", "y")]))
    proto.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, (1,)))
    model = load_model(proto.SerializeToString())
    with pytest.raises(ModelError, match="one input"):
        import_graph(model, SHAPE)
    assert ops(import_graph(model, SHAPE, ["r"])) == ["activate"]


def test_inputs_that_are_no_image() -> None:
    with pytest.raises(ModelError, match="float32 image"):
        import_graph(load_model(build(RELU, dtype=TensorProto.FLOAT16)), SHAPE)
    with pytest.raises(ModelError, match=r"shape \(1, 4\)"):
        import_graph(load_model(build(RELU, shape=(1, 4))), SHAPE)
    with pytest.raises(ModelError, match="expected an input of shape"):
        import_graph(load_model(build(RELU)), (1, 3, 10, 12))
    with pytest.raises(ModelError, match=r"expected an input shape \(1, C, H, W\)"):
        import_graph(load_model(build(RELU)), (2, 4, 10, 12))


def test_unknown_outputs() -> None:
    with pytest.raises(ModelError, match="expected a tensor of the model, got 'head'"):
        import_graph(load_model(build(RELU)), SHAPE, ["head"])


def test_another_size_than_the_declared_one() -> None:
    nodes = [node("Conv", "x w", "c", strides=[2, 2]), node("Reshape", "c n", "y")]
    model = load_model(build(nodes, {"w": weights(3, 4, 2, 2), "n": np.array([1, 3, 30])}))
    graph = import_graph(model, (1, 4, 20, 24), ["c"])
    assert graph.types["c"].shape == (1, 3, 10, 12)
    with pytest.raises(ModelError, match=r"cannot run at 1x4x20x24.*Reshape"):
        import_graph(model, (1, 4, 20, 24))
    before = model.proto.SerializeToString()
    import_graph(model, SHAPE)
    extract(model, {"x": (1, 4, 20, 24)}, ["c"])
    assert model.proto.SerializeToString() == before


def test_maps_too_large_to_store() -> None:
    nodes = [node("Resize", "x - s", "y")]
    model = load_model(build(nodes, {"s": np.array([1, 1, 4000, 4000], np.float32)}))
    with pytest.raises(ModelError, match="'y'"):
        import_graph(model, SHAPE)


def test_kept_at_unknown_types() -> None:
    nodes = [node("NonZero", "x", "i"), node("Cast", "i", "f", to=1), node("Relu", "f", "y")]
    graph = import_graph(load_model(build(nodes)), SHAPE)
    assert ops(graph) == ["onnx.NonZero", "onnx.Cast", "onnx.Relu"]
    assert "y" not in graph.types


def test_ops_newer_than_the_rules_stay_foreign() -> None:
    newest = onnx.defs.onnx_opset_version()
    nodes = [node("Identity", "x", "i"), node("Relu", "i", "y")]
    assert onnx.defs.get_schema("Identity", newest).since_version > 22
    assert onnx.defs.get_schema("Relu", newest).since_version <= 22
    graph = import_graph(load_model(build(nodes, opset=newest)), SHAPE)
    assert ops(graph) == ["onnx.Identity", "activate"]


def test_extract_between_tensors() -> None:
    nodes = [node("Relu", "x", "a"), node("Mul", "a k", "b"), node("Tanh", "b", "y")]
    model = load_model(build(nodes, {"k": weights(4, 1, 1), "unused": weights(3)}))
    piece = extract(model, {"a": (1, 4, 2, 2)}, ["y"])
    proto = onnx.load_model_from_string(piece)
    assert [item.op_type for item in proto.graph.node] == ["Mul", "Tanh"]
    assert [item.name for item in proto.graph.initializer] == ["k"]
    a = weights(1, 4, 2, 2)
    np.testing.assert_allclose(onnx_run(piece, {"a": a})[0], np.tanh(a * weights(4, 1, 1)), rtol=1e-5)
    open_shape = extract(model, {"a": None}, ["y", "b"])
    assert [item.shape for item in onnx_run(open_shape, {"a": a})] == [a.shape, a.shape]


def test_extract_holds_folded_shapes_fixed() -> None:
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "x", "n"),
        node("Resize", "p - - n", "y", mode="cubic"),
    ]
    model = load_model(build(nodes, shape=(1, 4, None, None)))
    graph = import_graph(model, SHAPE)
    with pytest.raises(ModelError, match="'x'"):
        extract(model, {"p": None}, ["y"])
    piece = extract(model, {"p": None}, ["y"], constants=graph.folded)
    assert onnx_run(piece, {"p": weights(1, 4, 5, 6)})[0].shape == SHAPE


def test_extract_knows_element_types() -> None:
    nodes = [
        node("Cast", "x", "i", to=TensorProto.INT32),
        node("Add", "i i", "j"),
        node("Cast", "j", "y", to=1),
    ]
    piece = extract(load_model(build(nodes)), {"i": None}, ["y"])
    assert onnx_run(piece, {"i": np.ones((1, 2), np.int32)})[0].tolist() == [[2, 2]]


def test_extract_refuses_what_it_cannot_cut() -> None:
    model = load_model(build(RELU))
    with pytest.raises(ModelError, match="'nothing'"):
        extract(model, {"x": None}, ["nothing"])
    with pytest.raises(ModelError, match="other than the inputs"):
        extract(model, {"x": None}, ["x"])


def depthwise(kernel: int, side: tuple[int, int], **attrs: object) -> bytes:
    """A convolution of each of 16 channels by itself, without padding."""
    made = node("Conv", "x w", "y", "conv", group=16, **attrs)
    return build([made], {"w": weights(16, 1, kernel, kernel)}, shape=(1, 16, *side))


@pytest.mark.parametrize("kernel", [7, 31])
def test_a_kernel_larger_than_the_image_is_refused(kernel: int) -> None:
    said = rf"cannot run at 1x16x5x6.*kernel, {kernel}x{kernel}, is larger than its input, 5x6"
    with pytest.raises(ModelError, match=said):
        Plan.compile(load_model(depthwise(kernel, (5, 6))))


@pytest.mark.parametrize(("kernel", "attrs"), [(7, {}), (8, {"strides": [2, 2]}), (3, {"dilations": [3, 3]})], ids=str)
def test_a_kernel_that_is_larger_by_one_is_refused(kernel: int, attrs: dict[str, list[int]]) -> None:
    with pytest.raises(ModelError, match=rf"kernel, {kernel}x{kernel}, is larger than its input, 6x6"):
        Plan.compile(load_model(depthwise(kernel, (6, 6), **attrs)))


def test_a_kernel_as_large_as_the_image_is_not() -> None:
    assert Plan.compile(load_model(depthwise(7, (7, 7)))).maps
