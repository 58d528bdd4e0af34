import numpy as np
import pytest

from cache.heads import spatial_tensors
from cache.onnx_import import import_graph, load_model, native_shape, spatial_heads
from tests.cache.onnx_models import SHAPE, build, model_path, node, weights


def heads(
    nodes: list[object], constants: dict[str, object], outputs: tuple[str, ...] = ("y",)
) -> list[tuple[object, ...]]:
    model = load_model(build(nodes, constants, outputs=outputs))  # type: ignore[arg-type]
    found = spatial_heads(model, import_graph(model, SHAPE))
    return [(head.tensor, head.output, head.post) for head in found]


def test_through_a_reshaping_tail() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", "c n", "cr"),
        node("Sigmoid", "p", "s"),
        node("Reshape", "s n", "pr"),
        node("Concat", "cr pr", "j", axis=2),
        node("Transpose", "j", "y", perm=[0, 2, 1]),
    ]
    found = heads(nodes, {"w": weights(5, 4, 1, 1), "n": np.array([1, 5, -1])})
    post = ("Reshape", "Concat", "Transpose")
    assert found == [("c", "y", post), ("s", "y", post)]


def test_an_output_that_is_spatial_itself() -> None:
    assert heads([node("Conv", "x w", "y")], {"w": weights(5, 4, 1, 1)}) == [("y", "y", ())]


def test_shape_arithmetic_is_no_way() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Shape", "x", "n"),
        node("Gather", "n zero", "b", axis=0),
        node("Concat", "b rest", "target", axis=0),
        node("Reshape", "c target", "y"),
    ]
    constants = {"w": weights(5, 4, 1, 1), "zero": np.array([0]), "rest": np.array([5, -1])}
    assert heads(nodes, constants) == [("c", "y", ("Reshape",))]


def test_a_convolution_after_the_reshape_is_no_head() -> None:
    """The box distributions of YOLOv8: a 1x1 convolution over reshaped anchors."""
    nodes = [
        node("Conv", "x w", "c"),
        node("Reshape", "c n", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 3]),
        node("Softmax", "t", "s", axis=1),
        node("Conv", "s v", "d"),
        node("Reshape", "d m", "y"),
    ]
    constants = {
        "w": weights(8, 4, 1, 1),
        "v": weights(1, 4, 1, 1),
        "n": np.array([1, 2, 4, 120]),
        "m": np.array([1, 2, 120]),
    }
    assert heads(nodes, constants) == [
        ("c", "y", ("Reshape", "Transpose", "Softmax", "Conv", "Reshape")),
    ]


def test_a_map_that_a_foreign_op_made_may_join_in() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("LogSoftmax", "c", "s", axis=1),
        node("Concat", "c s", "y", axis=1),
    ]
    model = load_model(build(nodes, {"w": weights(3, 4, 1, 1)}))
    graph = import_graph(model, SHAPE)
    assert spatial_tensors(graph) == {"x", "c", "y"}
    assert [head.tensor for head in spatial_heads(model, graph)] == ["y"]


def test_each_output_has_its_heads() -> None:
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "a"), node("Flatten", "c", "b")]
    found = heads(nodes, {"w": weights(5, 4, 1, 1)}, ("a", "b"))
    assert found == [("c", "a", ("Flatten",)), ("c", "b", ("Flatten",))]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("yolox_nano.onnx", None, {"1066": 85, "1108": 85, "1150": 85}),
        ("FastestDet.onnx", None, {"758": 85}),
        ("ppocrv3_det.onnx", (1, 3, 64, 96), {"sigmoid_0.tmp_0": 1}),
        (
            "nanodet_m_320.onnx",
            None,
            {"889": 80, "911": 80, "933": 80, "888": 32, "910": 32, "932": 32},
        ),
        (
            "ultraface_version-RFB-640.onnx",
            None,
            {"317": 6, "363": 4, "403": 4, "435": 6, "331": 12, "377": 8, "417": 8, "447": 12},
        ),
    ],
)
def test_real_models(name: str, shape: tuple[int, int, int, int] | None, expected: dict[str, int]) -> None:
    model = load_model(model_path(name))
    graph = import_graph(model, shape or native_shape(model) or (1, 3, 64, 64))
    found = {head.tensor: graph.types[head.tensor].shape[1] for head in spatial_heads(model, graph)}
    assert found == expected


@pytest.mark.data
def test_yunet_has_a_head_per_output() -> None:
    model = load_model(model_path("yunet_n_320_320.onnx"))
    found = spatial_heads(model, import_graph(model, (1, 3, 320, 320)))
    assert [head.output for head in found] == list(model.outputs)
    assert len({head.tensor for head in found}) == 12
    assert found[0].post == ("Transpose", "Reshape", "Sigmoid")
