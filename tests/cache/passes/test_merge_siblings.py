from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cache import plan as plan_module
from cache.graph import Graph, Node
from cache.onnx_import import import_graph, load_model
from cache.passes.merge_siblings import merge_siblings
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import Session
from cache.verify import verify
from service.opened import open_model
from tests.cache.engine_check import check_engine
from tests.cache.interpreter import onnx_run, run
from tests.cache.onnx_models import SHAPE, build, model_path, node, ops, weights

WEIGHTS = {f"w{n}": weights(n, 4, 1, 1, seed=n) for n in (1, 4, 8, 10, 16, 32)}
HEADS = [node("Conv", f"x w{n}", f"m{n}", f"head{n}") for n in (1, 4, 10)]


def model(nodes: Iterable[Any], *outputs: str, **more: np.ndarray) -> bytes:
    return build(list(nodes), {**WEIGHTS, **more}, outputs=outputs or ("y",))


def merged(data: bytes, kept: Collection[str] = ()) -> Graph:
    """The graph after the pass; its outputs are those before."""
    graph = import_graph(load_model(data), SHAPE)
    found = merge_siblings(graph, [item.name for item in graph if not item.is_foreign], kept)
    verify(found)
    if not any(item.is_foreign for item in graph):
        x = weights(*SHAPE)
        for name, value in run(graph, x).items():
            np.testing.assert_allclose(run(found, x)[name], value, rtol=1e-6, atol=1e-6)
    return found


def both(data: bytes) -> tuple[Plan, Plan]:
    """Plans without and with the pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "merge_siblings", lambda graph, cached, kept: graph)
        apart = Plan.compile(load_model(data))
    return apart, Plan.compile(load_model(data))


def names(plan: Plan) -> list[str]:
    return [item.step.name for item in plan.steps]


def packs(plan: Plan) -> int:
    return sum(item.step.op == "pack" for item in plan.steps)


def test_narrow_heads_become_one_convolution_and_slices() -> None:
    graph = merged(model(HEADS, "m1", "m4", "m10"))
    assert ops(graph) == ["conv", *["select_channels"] * 3]
    assert [item.name for item in graph] == ["head1+head4+head10", "head1", "head4", "head10"]
    assert graph.constants[graph.nodes[0].inputs[1]].shape == (15, 4, 1, 1)
    assert [item.output for item in graph.nodes[1:]] == ["m1", "m4", "m10"]


def with_depthwise(*widths: int, **attrs: Any) -> tuple[list[Any], dict[str, np.ndarray]]:
    kernels = {f"k{n}": weights(n, 1, 3, 3, seed=n) for n in widths}
    after = [node("Conv", f"m{n} k{n}", f"y{n}", f"deep{n}", group=n, pads=[1] * 4, **attrs) for n in widths]
    return [*HEADS, *after], kernels


def test_depthwise_convolutions_that_follow_merge_too() -> None:
    nodes, kernels = with_depthwise(1, 4, 10)
    graph = merged(model(nodes, "y1", "y4", "y10", **kernels))
    assert ops(graph) == ["conv", "conv", *["select_channels"] * 3]
    assert [item.name for item in graph.nodes[:2]] == ["head1+head4+head10", "deep1+deep4+deep10"]
    assert graph.nodes[1].attrs["groups"] == 15
    data = model(nodes, "y1", "y4", "y10", **kernels)
    assert names(check_engine(data, SHAPE, "conv", steps=2)) == ["head1+head4+head10", "deep1+deep4+deep10"]


def test_depthwise_convolutions_whose_inputs_are_handed_out_stay() -> None:
    nodes, kernels = with_depthwise(1, 4, 10)
    graph = merged(model(nodes, "y1", "y4", "y10", "m4", **kernels))
    assert {item.name for item in graph if item.op == "conv"} == {"head1+head10", "deep1+deep10", "head4", "deep4"}


def test_whole_blocks_merge_whoever_reads_them() -> None:
    nodes = [
        node("Conv", "x w32", "a", "a"),
        node("Conv", "x w16", "b", "b"),
        node("MaxPool", "a", "p", kernel_shape=[1, 1]),
        node("Add", "a p", "s"),
        node("Concat", "s b", "c", axis=1),
        node("Conv", "c u", "y"),
    ]
    apart, together = both(model(nodes, u=weights(3, 48, 1, 1)))
    assert names(together)[0] == "a+b"
    assert (packs(apart), packs(together)) == (0, 0)
    assert len(together.steps) == len(apart.steps) - 1


def test_narrow_parts_whose_readers_would_pack_them_stay() -> None:
    nodes = [
        node("Conv", "x w8", "a", "a"),
        node("Conv", "x w8", "b", "b"),
        node("Add", "a b", "y"),
    ]
    assert ops(merged(model(nodes))) == ["conv", "conv", "add"]


def test_parts_are_put_where_their_readers_bear_it() -> None:
    """Whole blocks come first, then the part that must begin a block, then those that may lie anywhere."""
    nodes = [
        node("Conv", "x w10", "free", "free"),
        node("Conv", "x w8", "a", "summed"),
        node("Add", "a a", "s"),
        node("Conv", "x w16", "b", "whole"),
        node("Add", "b b", "t"),
        node("Conv", "free u", "f"),
        node("Concat", "s t f", "y", axis=1),
    ]
    # 8 + 10 channels would lie in two blocks, which its reader would have to read: it is left where it is.
    graph = merged(model(nodes, u=weights(3, 10, 1, 1)))
    assert "whole+summed" in [item.name for item in graph]
    nodes[0], narrow = node("Conv", "x w4", "free", "free"), weights(3, 4, 1, 1)
    data = model(nodes, u=narrow)
    assert "whole+summed+free" in [item.name for item in merged(data)]
    apart, together = both(data)
    assert (packs(apart), packs(together), len(together.steps)) == (0, 0, len(apart.steps) - 2)
    check_engine(data, SHAPE, "conv", steps=2)


def test_readers_through_views_count() -> None:
    nodes = [*HEADS[1:], node("Concat", "m10 m4", "c", axis=1), node("Sigmoid", "c", "y")]
    assert "head4+head10" not in [item.name for item in merged(model(nodes))]
    nodes[-1] = node("Conv", "c u", "y")
    assert "head4+head10" in [item.name for item in merged(model(nodes, u=weights(3, 14, 1, 1)))]


@pytest.mark.parametrize(
    "other",
    [
        [node("Conv", "x w8", "b", strides=[2, 2])],
        [node("Conv", "x w8", "b", pads=[1, 0, 0, 0])],
        [node("Conv", "x v", "b", pads=[1] * 4)],
        [node("Conv", "x g", "b", group=4)],
        [node("Conv", "x w8", "c"), node("Relu", "c", "b")],
        [node("MaxPool", "x", "p", kernel_shape=[1, 1]), node("Conv", "p w8", "b")],
    ],
    ids=["stride", "pads", "kernel", "groups", "activation", "input"],
)
def test_others_are_no_siblings(other: list[Any]) -> None:
    data = model([node("Conv", "x w4", "a"), *other], "a", "b", v=weights(8, 4, 3, 3), g=weights(8, 1, 1, 1))
    assert ops(merged(data)).count("conv") == 2


def test_slopes_per_channel_stay() -> None:
    nodes = [n for i in "ab" for n in (node("Conv", "x w4", f"c{i}"), node("PRelu", f"c{i} s", i))]
    assert ops(merged(model(nodes, "a", "b", s=weights(4, 1, 1)))) == ["conv", "conv"]


def test_an_output_does_not_join_a_map_that_has_a_threshold() -> None:
    nodes = [*HEADS[:2], node("Conv", "m4 u", "y")]
    assert ops(merged(model(nodes, "m1", "y", u=weights(3, 4, 1, 1)))) == ["conv"] * 3


def test_an_absent_bias_is_zero() -> None:
    nodes = [node("Conv", "x w4 b4", "a", "a"), node("Conv", "x w1", "b", "b")]
    graph = merged(model(nodes, "a", "b", b4=weights(4)))
    np.testing.assert_array_equal(graph.constants[graph.nodes[0].inputs[2]], [*weights(4), 0])
    assert len(merged(model(HEADS, "m1", "m4", "m10")).nodes[0].inputs) == 2


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    nodes = [*HEADS[:2], node("Relu", "x", "r", "head1+head4")]
    assert "head1+head4+" in [item.name for item in merged(model(nodes, "m1", "m4", "r"))]


def test_quantised_models_stay() -> None:
    graph = import_graph(load_model(model(HEADS, "m1", "m4", "m10")), SHAPE)
    graph = replace(graph, nodes=(*graph.nodes, Node("q", "quantise", ("m1",), ("bytes",))))
    assert merge_siblings(graph, [item.name for item in graph]) is graph


def test_what_is_not_cached_stays() -> None:
    graph = import_graph(load_model(model(HEADS, "m1", "m4", "m10")), SHAPE)
    assert ops(merge_siblings(graph, ["head1"])) == ["conv"] * 3


def test_nodes_with_rules_of_their_own_stay() -> None:
    data = model(HEADS, "m1", "m4", "m10")
    assert {item.name for item in merged(data, ["head4"]) if item.op == "conv"} == {"head1+head10", "head4"}
    nodes = [*(node("Conv", "x w16", i, i) for i in "abc"), node("Add", "a b", "s"), node("Add", "s c", "y")]
    rules = {"a": Level(1, 0.01, 1), "b+c": Level(1, 0.02, 2)}
    plan = Plan.compile(load_model(model(nodes)), policy=Policy(nodes=rules))
    found = {s.step.name: (s.epsilon, s.block) for s in plan.steps if s.step.op == "conv"}
    assert found == {"a": (0.01, 1), "b+c": (0.02, 2)}


def test_slices_are_handed_out_and_fed_to_tails() -> None:
    nodes = [*HEADS, node("Flatten", "m4", "f"), node("Softmax", "f", "y", axis=1)]
    data = model(nodes, "m1", "y", "m10")
    apart, together = both(data)
    assert (len(apart.steps), len(together.steps)) == (3, 1)
    x = weights(*SHAPE)
    found, before = Session(together).push_tensor(x).outputs, Session(apart).push_tensor(x).outputs
    for name, value in zip(found, onnx_run(data, {"x": x}), strict=True):
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
        assert found[name].tobytes() == before[name].tobytes()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "fewer"),
    [
        ("yunet_n_320_320", 18),
        ("yunet_n_640_640", 18),
        ("ultraface_version-RFB-640", 4),
        ("yolox_nano", 8),
        ("nanodet_m_320", 0),
        ("FastestDet", 0),
        ("ppocrv3_det", 0),
    ],
)
def test_steps_of_real_models(name: str, fewer: int) -> None:
    opened = open_model(model_path(f"{name}.onnx"), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "merge_siblings", lambda graph, cached, kept: graph)
        apart = opened.compile()
    together = opened.compile()
    assert len(together.steps) == len(apart.steps) - fewer
    assert packs(together) == packs(apart)
    assert together.total_macs == apart.total_macs
    frame = np.random.default_rng(0).integers(0, 256, (apart.height, apart.width, 3), np.uint8)
    before, after = (Session(plan, exact=True).push(frame).outputs for plan in (apart, together))
    for output in before:
        np.testing.assert_allclose(after[output], before[output], rtol=0, atol=1e-4 * np.abs(before[output]).max())
