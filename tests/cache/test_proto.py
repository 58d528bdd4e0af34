import onnx
import pytest
from onnx import helper

from cache.model import ModelError
from cache.proto import all_graphs, all_nodes, captured, looks_like, refuse_external_data, subgraphs
from tests.cache.onnx_models import build, node, weights


def branch() -> onnx.NodeProto:
    inner = helper.make_graph(
        [node("Mul", "outer local", "m"), node("Add", "m other", "r")],
        "inner",
        [],
        [helper.make_tensor_value_info("r", 1, None)],
        [onnx.numpy_helper.from_array(weights(1), "local")],
    )
    return helper.make_node("If", ["cond"], ["z"], then_branch=inner, else_branch=inner)


def test_nodes_inside_nodes() -> None:
    graph = helper.make_graph([branch(), node("Relu", "z", "y")], "g", [], [])
    assert [item.op_type for item in all_nodes(graph)] == ["If", "Mul", "Add", "Mul", "Add", "Relu"]
    assert len(list(all_graphs(graph))) == 3
    assert len(subgraphs(graph.node[0])) == 2
    assert captured(graph.node[0]) == ["outer", "other"]


@pytest.mark.parametrize("where", ["initializer", "attribute", "inside"])
def test_external_data_is_refused(where: str) -> None:
    tensor = onnx.numpy_helper.from_array(weights(1), "secret")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    proto = onnx.load_model_from_string(build([node("Relu", "x", "y")]))
    if where == "initializer":
        proto.graph.initializer.append(tensor)
    elif where == "attribute":
        proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))
    else:
        item = branch()
        item.attribute[0].g.initializer.append(tensor)
        proto.graph.node.append(item)
    with pytest.raises(ModelError, match="'secret' in external data"):
        refuse_external_data(proto)


def test_sparse_weights_are_refused() -> None:
    proto = onnx.load_model_from_string(build([node("Relu", "x", "y")]))
    proto.graph.sparse_initializer.add()
    with pytest.raises(ModelError, match="sparse"):
        refuse_external_data(proto)


def test_what_a_file_looks_like() -> None:
    assert looks_like(b"") == "an empty file"
    assert looks_like(b"# Read me\nplease") == "text starting with '# Read me\\nplease'"
    assert looks_like(b"\x89PNG\r\n\x1a\n") == "8 bytes starting with 89 50 4e 47 0d 0a 1a 0a"
