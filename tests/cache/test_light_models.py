"""Well-known classifiers with drawn weights: dense against ONNX Runtime, exact against dense, the loop.

Matrix products are narrow here, and VGG-19 is left out: `python -m benchmarks.light_models` runs all as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from benchmarks.light_networks import NAMES, SIDE, frames, imagenet_table, light_model
from cache.onnx_import import OnnxModel, extract, load_model
from cache.plan import Plan
from cache.session import Session
from cache.tail import TailRunner
from service.bench.synthetic import mobilenet, vgg16_whole
from tests.cache.closed_loop import largest_excess

NARROW = 64
WRITTEN = {"mobilenet": mobilenet, "vgg16-whole": partial(vgg16_whole, wide=NARROW)}
SMALLER = {"densenet121": 96, "squeezenet": 96, "mobilenet": 96, "vgg16-whole": 64}
"""Sides in px of networks that are not made for 224."""
FRAMES = 4
LIMIT = 1e-4
UNCACHED = {"bvlc_alexnet": "LRN", "inception_v1": "LRN", "zfnet512": "LRN"}
"""Networks whose second layer is one that the engine leaves to ONNX Runtime, and with it all that follows."""


@dataclass(frozen=True)
class Subject:
    """A network and its plan."""

    name: str
    model: OnnxModel
    plan: Plan


@pytest.fixture(scope="module", params=[*(name for name in NAMES if name != "vgg19"), *WRITTEN])
def subject(request):
    name = request.param
    side = SMALLER.get(name, SIDE)
    data = WRITTEN[name]((side, side)) if name in WRITTEN else light_model(name, side, NARROW)
    model = load_model(data)
    return Subject(name, model, Plan.compile(model, (1, 3, side, side), normalisation=imagenet_table()))


def test_a_dense_frame_agrees_with_onnxruntime(subject):
    plan = subject.plan
    x = plan.tensor(frames(plan.width, 1)[0])
    found = Session(plan).push_tensor(x).outputs
    piece = extract(subject.model, {plan.input_name: plan.input_shape}, plan.output_names)
    expected = TailRunner(piece, [plan.input_name], plan.output_names).run({plan.input_name: x})
    assert tuple(found) == subject.model.outputs
    for output, value in expected.items():
        assert np.unique(value).size > 500, "outputs that are all equal agree with anything"
        assert np.abs(found[output] - value).max() < LIMIT * np.abs(value).max(), output


def test_exact_mode_is_a_full_recompute_bit_for_bit(subject):
    stream, whole = Session(subject.plan, exact=True), Session(subject.plan, exact=True)
    outputs, decisions = set(), []
    for frame in frames(subject.plan.width, FRAMES):
        result = stream.push(frame)
        decisions.append(result.decision)
        whole.reset()
        for output, value in whole.push(frame).outputs.items():
            assert result.outputs[output].tobytes() == value.tobytes(), output
            outputs.add(value.tobytes())
    assert decisions == ["keyframe", *["partial"] * (FRAMES - 1)]
    assert len(outputs) == FRAMES, "every frame has another answer"


def test_within_a_budget_nothing_strays_from_its_threshold(subject):
    session = Session(subject.plan)
    fractions = [session.push(frame).compute_fraction for frame in frames(subject.plan.width, FRAMES)]
    assert largest_excess(session) < 1e-4
    assert 0 < np.mean(fractions[1:]) < 0.9


def test_what_is_not_cached_runs_in_a_tail_that_says_why(subject):
    parts = subject.plan.partition
    reasons = " ".join(reason for tail in parts.tails for reason in tail.reasons)
    assert len(parts.cached) + len(parts.reasons) == len(subject.plan.graph.nodes)
    if subject.name in UNCACHED:
        assert f"{UNCACHED[subject.name]} is not a cached op" in reasons
    else:
        assert all(node.op != "conv" for node in subject.plan.graph.nodes if node.name in parts.reasons)
    if subject.name in ("squeezenet", "densenet121"):
        assert parts.tails == ()
