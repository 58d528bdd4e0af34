"""Each op of the baseline against the tests' own interpreter of graphs, which computes in float64."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "cache"))

import interpreter

from cache.graph import Activation, Graph, Node, TensorType
from service.bench.dense_ops import UnknownOpError, activate, prepare, shape_of

SHAPE = (6, 9, 8)
POOL = {"kernel": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 1), "dilations": (1, 1)}
CASES = {
    "add": (2, {}, SHAPE),
    "sub": (2, {}, SHAPE),
    "mul": (2, {}, SHAPE),
    "max": (2, {}, SHAPE),
    "min": (2, {}, SHAPE),
    "affine": (1, {"scale": np.arange(6, dtype=np.float32), "shift": np.ones(6, np.float32)}, SHAPE),
    "activate": (1, {}, SHAPE),
    "max_pool": (1, POOL, (6, 5, 4)),
    "avg_pool": (1, POOL, (6, 5, 4)),
    "avg_pool of padding too": (1, {**POOL, "count_include_pad": True}, (6, 5, 4)),
    "max_pool beyond the edge": (1, {**POOL, "pads": (0, 0, 0, 0)}, (6, 5, 4)),
    "avg_pool beyond the edge": (1, {**POOL, "pads": (1, 0, 0, 0), "count_include_pad": True}, (6, 5, 4)),
    "max_pool apart": (1, {**POOL, "dilations": (2, 3)}, (6, 4, 3)),
    "global_avg_pool": (1, {}, (6, 1, 1)),
    "global_max_pool": (1, {}, (6, 1, 1)),
    "softmax": (1, {}, SHAPE),
    "concat": (2, {}, (12, 9, 8)),
    "select_channels": (1, {"channels": np.array([5, 0, 3])}, (3, 9, 8)),
    "slice_spatial": (1, {"starts": (1, 0), "steps": (2, 3)}, (6, 4, 3)),
    "pad": (1, {"pads": (1, 2, 0, 1)}, (6, 10, 11)),
} | {
    f"resize {mode} {coordinate}": (
        1, {"mode": mode, "coordinate": coordinate, "nearest_mode": "floor", "scales": (2.0, 1.5)}, (6, 18, 12),
    )
    for mode in ("nearest", "linear")
    for coordinate in ("asymmetric", "half_pixel", "align_corners")
}  # fmt: skip


def graph_of(op, inputs, attrs, shape):
    """One node between maps of the given shapes."""
    names = tuple(f"x{i}" for i in range(inputs))
    node = Node("node", op, names, ("y",), attrs)
    types = {name: TensorType(np.dtype(np.float32), (1, *SHAPE)) for name in names}
    types["y"] = TensorType(np.dtype(np.float32), (1, *shape))
    return Graph("one", names, ("y",), (node,), {}, types), node


@pytest.mark.parametrize("case", CASES)
def test_as_the_interpreter(case):
    inputs, attrs, shape = CASES[case]
    graph, node = graph_of(case.split()[0], inputs, attrs, shape)
    rng = np.random.default_rng(1)
    sources = [rng.standard_normal(SHAPE, np.float32) for _ in range(inputs)]
    out = np.full(shape, np.nan, np.float32)
    prepare(graph, node)(sources, out)
    expected = interpreter._OPS[node.op](node, [s[None] for s in sources], (1, *shape))
    np.testing.assert_allclose(out, expected[0], rtol=1e-5, atol=1e-6)
    assert shape_of(graph, "y") == shape


def test_a_vector_is_spread_over_the_map():
    graph, node = graph_of("mul", 2, {}, SHAPE)
    x, gate = np.ones(SHAPE, np.float32), np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    out = np.empty(SHAPE, np.float32)
    prepare(graph, node)([x, gate], out)
    assert (out == gate).all()


@pytest.mark.parametrize(
    "activation",
    [
        Activation(), Activation("relu"), Activation("clip", -0.25, 0.5), Activation("leaky_relu", 0.1),
        Activation("leaky_relu", 1.5), Activation("prelu", slope=np.linspace(-1, 2, 6, dtype=np.float32)),
        Activation("silu"), Activation("sigmoid"), Activation("hard_swish"), Activation("hard_sigmoid", 0.2, 0.5),
    ],
    ids=str,
)  # fmt: skip
def test_activations(activation):
    x = np.random.default_rng(2).standard_normal(SHAPE, np.float32) * 4
    expected = interpreter.activate(activation, x)
    activate(activation, x, np.empty(x.size + 5, np.float32))
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)


def test_an_op_that_it_does_not_know_is_named():
    graph, node = graph_of("q_conv", 1, {}, SHAPE)
    with pytest.raises(UnknownOpError, match=r"does not compute q_conv \(node\)"):
        prepare(graph, node)
