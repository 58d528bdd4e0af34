import numpy as np

from cache.graph import Activation, Graph, Node, TensorType, is_synthetic, macs

FLOAT = np.dtype(np.float32)


def test_feature_maps() -> None:
    assert TensorType(FLOAT, (1, 2, 3, 4)).is_feature_map
    assert not TensorType(FLOAT, (2, 2, 3, 4)).is_feature_map
    assert not TensorType(FLOAT, (1, 2, 3)).is_feature_map
    assert not TensorType(FLOAT, (1, 2, 0, 3)).is_feature_map
    assert not TensorType(np.dtype(np.float16), (1, 2, 3, 4)).is_feature_map


def test_activations_compare_by_value() -> None:
    slope = np.array([0.1, 0.2], np.float32)
    assert Activation("prelu", slope=slope) == Activation("prelu", slope=slope.copy())
    assert Activation("prelu", slope=slope) != Activation("prelu", slope=slope * 2)
    assert len({Activation("relu"), Activation("relu"), Activation("clip", 0, 6)}) == 2


def test_activations_that_cannot_be_negative() -> None:
    kinds = ["relu", "sigmoid", "hard_sigmoid"]
    assert all(Activation(kind).is_non_negative for kind in kinds)
    assert Activation("clip", 0, 6).is_non_negative
    assert not Activation("clip", -1, 1).is_non_negative
    assert not Activation("silu").is_non_negative


def test_who_makes_and_who_reads() -> None:
    nodes = (
        Node("a", "onnx.A", ("x", "k"), ("p",)),
        Node("b", "onnx.B", ("p", "p"), ("y", "")),
    )
    graph = Graph("g", ("x",), ("y",), nodes, {"k": np.ones(2, np.int64)}, {"x": TensorType(FLOAT, (1, 1, 2, 2))})
    assert graph.producers["y"].name == "b"
    assert [node.name for node in graph.consumers["p"]] == ["b"]
    assert graph.activations(nodes[0]) == ("x",)
    assert graph.type_of("k") == TensorType(np.dtype(np.int64), (2,))
    assert graph.type_of("p") is None
    assert [node.name for node in graph] == ["a", "b"]


def work(op: str, shapes: dict[str, tuple[int, ...]], **attrs: object) -> int:
    types = {name: TensorType(FLOAT, shape) for name, shape in shapes.items()}
    node = Node("n", op, ("x", "w"), ("y",), attrs)
    return macs(Graph("g", ("x",), ("y",), (node,), {}, types), node)


def test_macs() -> None:
    conv = {"x": (1, 8, 10, 10), "w": (16, 4, 3, 3), "y": (1, 16, 5, 5)}
    assert work("conv", conv) == 16 * 5 * 5 * 4 * 9
    transposed = {"x": (1, 8, 5, 5), "w": (8, 3, 2, 2), "y": (1, 3, 10, 10)}
    assert work("conv_transpose", transposed) == 8 * 25 * 3 * 4
    assert work("onnx.MatMul", {"x": (2, 3, 7), "w": (7, 5), "y": (2, 3, 5)}) == 2 * 3 * 5 * 7
    assert work("onnx.Gemm", {"x": (7, 3), "w": (7, 5), "y": (3, 5)}, transA=1) == 3 * 5 * 7
    assert work("add", {"x": (1, 2, 3, 3), "w": (1, 2, 3, 3), "y": (1, 2, 3, 3)}) == 0
    assert work("onnx.MatMul", {"x": (2, 3, 7), "w": (7, 5)}) == 0


def test_made_up_names() -> None:
    assert is_synthetic("afterimage:conv/w")
    assert not is_synthetic("conv/w")
