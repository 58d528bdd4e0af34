from tests.cache.onnx_models import build, check, node, ops, weights


def test_a_copy_at_the_output_takes_its_sources_place() -> None:
    nodes = [node("Conv", "x w", "c"), node("Identity", "c", "y")]
    graph = check(build(nodes, {"w": weights(3, 4, 1, 1)}))
    assert ops(graph) == ["conv"]
    assert graph.nodes[0].output == "y"


def test_a_copy_of_the_input_stays() -> None:
    graph = check(build([node("Identity", "x", "y")]))
    assert ops(graph) == ["activate"]
    assert graph.nodes[0].activation.is_identity


def test_a_copy_of_another_output_stays() -> None:
    nodes = [node("Relu", "x", "a"), node("Identity", "a", "y")]
    assert ops(check(build(nodes, outputs=["a", "y"]))) == ["activate", "activate"]


def test_copies_in_a_row() -> None:
    nodes = [node("Identity", "x", "a"), node("Identity", "a", "b"), node("Add", "a b", "y")]
    graph = check(build(nodes))
    assert ops(graph) == ["add"]
    assert graph.nodes[0].inputs == ("x", "x")
