"""A file whose shuffles are fixed to one size, run at another: against the same net exported at that size."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import ModelError, at_size, import_graph, load_model
from cache.plan import Plan
from cache.resizing import constant_target, scaled_targets
from cache.session import Session
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import build, node, weights


def shuffle_net(height: int, width: int, *, flat: bool = False) -> bytes:
    """Convolution of stride 2, shuffle of 12 channels in 3 groups, depthwise, exported at one size."""
    rows, columns = height // 2, width // 2
    split = [1, 3, 4, rows * columns] if flat else [1, 3, 4, rows, columns]
    nodes = [
        node("Conv", "x w", "a", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Reshape", "a split", "r", "open"),
        node("Transpose", "r", "t", perm=[0, 2, 1, 3] if flat else [0, 2, 1, 3, 4]),
        node("Reshape", "t back", "s", "close"),
        node("Conv", "s v", "d", group=12, pads=[1, 1, 1, 1]),
        node("Conv", "d u", "y"),
    ]
    constants = {"w": weights(12, 3, 3, 3), "v": weights(12, 1, 3, 3), "u": weights(5, 12, 1, 1),
                 "split": np.array(split), "back": np.array([1, 12, rows, columns])}  # fmt: skip
    return build(nodes, constants, shape=(1, 3, height, width))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (16, 16), (48, 8)])
def test_another_size_gives_what_the_net_exported_there_gives(height, width, flat):
    model = load_model(shuffle_net(32, 32, flat=flat))
    with pytest.raises(ModelError, match="fixed to"):
        import_graph(model, (1, 3, height, width if width != 32 else 40))
    sized = at_size(model, (1, 3, height, width))
    plan = Plan.compile(sized, (1, 3, height, width))
    assert plan.partition.tails == ()
    x = weights(1, 3, height, width)
    (expected,) = onnx_run(shuffle_net(height, width, flat=flat), {"x": x})
    np.testing.assert_allclose(Session(plan).push_tensor(x).outputs["y"], expected, atol=1e-4)


def test_the_file_itself_is_not_touched():
    model = load_model(shuffle_net(32, 32))
    before = model.proto.SerializeToString()
    sized = at_size(model, (1, 3, 64, 32))
    assert sized is not model
    assert model.proto.SerializeToString() == before
    assert sized.source.constants["open@64x32"].tolist() == [1, 3, 4, 32, 16]
    assert sized.source.constants["close@64x32"].tolist() == [1, 12, 32, 16]
    assert sized.sha256 == model.sha256


def test_the_same_size_and_nets_without_shuffles_stay_as_they_are():
    model = load_model(shuffle_net(32, 32))
    assert at_size(model, (1, 3, 32, 32)) is model
    plain = load_model(build([node("Conv", "x w", "y")], {"w": weights(2, 4, 1, 1)}))
    assert at_size(plain, (1, 4, 64, 64)) is plain
    dynamic = load_model(build([node("Relu", "x", "y")], shape=(1, 4, "h", "w")))
    assert at_size(dynamic, (1, 4, 64, 64)) is dynamic


def test_maps_that_do_not_scale_to_whole_pixels_are_left_alone():
    model = load_model(shuffle_net(32, 32))
    graph = import_graph(model, (1, 3, 32, 32))
    assert scaled_targets(model.source, graph, (32, 32), (33, 32)) == {}
    found = scaled_targets(model.source, graph, (32, 32), (34, 32))
    assert {name: target.tolist() for name, target in found.items()} == {
        "open": [1, 3, 4, 17, 16],
        "close": [1, 12, 17, 16],
    }


def test_a_reshape_that_flattens_everything_is_no_shuffle():
    nodes = [node("Conv", "x w", "a"), node("Reshape", "a to", "y")]
    model = load_model(build(nodes, {"w": weights(2, 4, 1, 1), "to": np.array([1, 240])}))
    graph = import_graph(model, (1, 4, 10, 12))
    assert scaled_targets(model.source, graph, (10, 12), (20, 24)) == {}


def test_constant_target_of_an_initializer_and_of_a_constant_node():
    import onnx

    value = onnx.numpy_helper.from_array(np.array([1, -1]), "v")
    nodes = [node("Constant", "", "to", value=value), node("Reshape", "x to", "m"), node("Reshape", "m also", "y")]
    source = load_model(build(nodes, {"also": np.array([1, 480])})).source
    _, first, second = source.nodes
    assert constant_target(source, first).tolist() == [1, -1]
    assert constant_target(source, second).tolist() == [1, 480]
    assert constant_target(source, source.nodes[0]) is None
