"""A depthwise convolution and the 1x1 convolution after it as one step: when, and that it is both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.separable import separable_convolution
from cache.plan import Plan
from cache.policy import Level, Policy
from cache.session import Session
from tests.cache.engine_check import check_engine
from tests.cache.onnx_models import build, node, weights

ALWAYS = Policy(separable_bytes=0)


def model(channels: int = 20, outputs: list[str] | None = None, second: str = "Conv", **attrs: object) -> bytes:
    """Depthwise with a bias and ReLU, then 1x1 with a bias and PReLU."""
    constants = {
        "k": weights(channels, 1, 3, 3), "c": weights(channels), "w": weights(37, channels, 1, 1) / 4, "b": weights(37),
        "s": np.abs(weights(37, 1, 1)),
    }  # fmt: skip
    nodes = [
        node("Conv", "x k c", "m", "first", group=channels, **attrs), node("Relu", "m", "n"),
        node(second, "n w b", "p", "second"), node("PRelu", "p s", "y"),
    ]  # fmt: skip
    return build(nodes, constants, shape=(1, channels, 13, 18), outputs=outputs or ["y"])


def entries(plan: Plan) -> list[str]:
    """How each convolution is computed."""
    return [s.step.method.entry.name for s in plan.steps if s.step.op == "conv"]


@pytest.mark.parametrize("channels", [3, 16, 20, 70])
@pytest.mark.parametrize(
    "attrs", [{"pads": [1, 1, 1, 1]}, {"strides": [2, 2], "pads": [0, 1, 1, 0]}, {"dilations": [2, 1]}], ids=str
)
def test_it_is_both_convolutions(channels, attrs):
    plan = check_engine(model(channels, **attrs), (1, channels, 13, 18), "conv", policy=ALWAYS)
    assert entries(plan) == [separable_convolution.name]
    assert not any(m.name in ("m", "n") for m in plan.maps), "what lies between is not stored"
    step = next(s.step for s in plan.steps if s.step.op == "conv")
    _, out, height, width = plan.graph.type_of("y").shape
    assert (step.name, step.macs) == ("second", height * width * channels * (9 + out))


def test_what_is_handed_out_or_read_twice_is_stored():
    assert len(entries(Plan.compile(load_model(model(outputs=["y", "n"])), policy=ALWAYS))) == 2
    twice = build(
        [node("Conv", "x k", "m", group=6), node("Conv", "m w", "p"), node("MaxPool", "m", "q", kernel_shape=[1, 1])],
        {"k": weights(6, 1, 3, 3), "w": weights(8, 6, 1, 1)}, shape=(1, 6, 9, 9), outputs=["p", "q"],
    )  # fmt: skip
    assert len(entries(Plan.compile(load_model(twice), policy=ALWAYS))) == 2


def test_a_rule_of_its_own_keeps_a_node():
    plan = Plan.compile(load_model(model()), policy=replace(ALWAYS, nodes={"first": Level(1, 0.1, 1)}))
    assert len(entries(plan)) == 2


def test_small_maps_stay_apart():
    size = 20 * 11 * 16 * 4
    assert len(entries(Plan.compile(load_model(model()), policy=Policy(separable_bytes=size)))) == 1
    assert len(entries(Plan.compile(load_model(model()), policy=Policy(separable_bytes=size + 1)))) == 2
    assert len(entries(Plan.compile(load_model(model())))) == 2
    with pytest.raises(ValueError, match="expected separable_bytes of 0 or more, got -1"):
        Policy(separable_bytes=-1)


def test_a_wider_second_convolution_stays_apart():
    constants = {"k": weights(6, 1, 3, 3), "w": weights(8, 6, 3, 3)}
    data = build([node("Conv", "x k", "m", group=6), node("Conv", "m w", "y")], constants, shape=(1, 6, 9, 9))
    assert len(entries(Plan.compile(load_model(data), policy=ALWAYS))) == 2


def test_threads_do_not_show_in_the_bits():
    plan = Plan.compile(load_model(model(70, pads=[1, 1, 1, 1])), policy=ALWAYS)
    x = np.random.default_rng(3).standard_normal((1, 70, 13, 18)).astype(np.float32)
    found = [Session(plan, exact=True, threads=n).push_tensor(x).outputs["y"] for n in (1, 3)]
    assert np.array_equal(*found)
