import numpy as np
import pytest
from onnx import TensorProto, helper

from cache.onnx_import import ModelError, import_graph, load_model
from tests.cache.onnx_models import build, check, node, ops, weights


def test_weights_as_constant_nodes() -> None:
    w = weights(3, 4, 1, 1)
    constant = helper.make_node("Constant", [], ["w"], value=helper.make_tensor("w", 1, w.shape, w.ravel()))
    assert ops(check(build([constant, node("Conv", "x w", "y")]))) == ["conv"]


@pytest.mark.parametrize(
    "attrs", [{"value_int": 2}, {"value_ints": [2]}, {"value_float": 2.0}, {"value_floats": [2.0]}], ids=str
)
def test_constant_spellings(attrs: dict[str, object]) -> None:
    nodes = [
        helper.make_node("Constant", [], ["k"], **attrs),
        node("Cast", "k", "f", to=TensorProto.FLOAT),
        node("Mul", "x f", "y"),
    ]
    assert ops(check(build(nodes))) == ["affine"]


def test_arithmetic_on_shapes() -> None:
    """What exporters write for: resize x to twice its size."""
    nodes = [
        node("Shape", "x", "n"),
        node("Gather", "n two", "h", axis=0),
        node("Gather", "n three", "w", axis=0),
        node("Cast", "h", "hf", to=TensorProto.FLOAT),
        node("Mul", "hf factor", "h2"),
        node("Floor", "h2", "h2f"),
        node("Cast", "h2f", "h2i", to=TensorProto.INT64),
        node("Mul", "w two", "w2"),
        node("Unsqueeze", "h2i zero", "hu"),
        node("Unsqueeze", "w2 zero", "wu"),
        node("Concat", "hu wu", "hw", axis=0),
        node("Slice", "n zero two1", "nc"),
        node("Concat", "nc hw", "sizes", axis=0),
        node("Resize", "x - - sizes", "y", mode="linear"),
    ]
    constants = {
        "two": np.array(2),
        "three": np.array(3),
        "zero": np.array([0]),
        "two1": np.array([2]),
        "factor": np.float32(2),
    }
    graph = check(build(nodes, constants, shape=(None, 4, None, None), opset=13))
    assert ops(graph) == ["resize"]
    assert graph.types["y"].shape == (1, 4, 20, 24)
    assert graph.folded["sizes"].tolist() == [1, 4, 20, 24]


def test_ops_left_to_the_onnx_evaluator() -> None:
    nodes = [node("CumSum", "k zero", "c"), node("Mul", "x c", "y")]
    assert ops(check(build(nodes, {"k": weights(4, 1, 1), "zero": np.array(0)}))) == ["affine"]


def test_folding_is_bounded() -> None:
    nodes = [node("ConstantOfShape", "n", "big"), node("ReduceMax", "big", "m"), node("Add", "x m", "y")]
    graph = import_graph(load_model(build(nodes, {"n": np.array([100_000, 1000])})), (1, 4, 10, 12))
    assert "onnx.ConstantOfShape" in ops(graph)
    assert sum(value.size for value in graph.constants.values()) < 100


def test_random_numbers_are_not_constants() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], shape=[1, 4, 1, 1], seed=1.0),
        node("Add", "x r", "y"),
    ]
    graph = import_graph(load_model(build(nodes)), (1, 4, 10, 12))
    assert "onnx.RandomNormal" in ops(graph)


def test_a_constant_output() -> None:
    nodes = [node("Shape", "x", "n"), node("Relu", "x", "y")]
    data = build(nodes, outputs={"y": TensorProto.FLOAT, "n": TensorProto.INT64})
    graph = import_graph(load_model(data), (1, 4, 10, 12))
    assert graph.constants["n"].tolist() == [1, 4, 10, 12]


def test_a_fixed_reshape_is_named() -> None:
    nodes = [node("Reshape", "x n", "y", name="flatten_all")]
    model = load_model(build(nodes, {"n": np.array([1, 480])}))
    assert ops(import_graph(model, (1, 4, 10, 12))) == ["onnx.Reshape"]
    with pytest.raises(ModelError, match=r"1x4x20x12: node 'flatten_all' \(Reshape\).*\(1, 480\)"):
        import_graph(model, (1, 4, 20, 12))


def test_a_fixed_operand_is_named() -> None:
    model = load_model(build([node("Add", "x grid", "y", name="anchors")], {"grid": weights(10, 12)}))
    with pytest.raises(ModelError, match=r"node 'anchors' \(Add\).*fixed 'grid' \(10, 12\)"):
        import_graph(model, (1, 4, 20, 12))
