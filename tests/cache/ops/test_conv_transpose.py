"""Transposed convolution by phases, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.conv_transpose import supports
from cache.plan import Plan
from cache.session import Session
from tests.cache.engine_check import check_engine, imported
from tests.cache.onnx_models import build, node, weights

CASES = {
    "stride 2": {"strides": [2, 2]},
    "output padding": {"strides": [3, 2], "output_padding": [2, 1], "pads": [1, 0, 1, 1]},
    "asymmetric pads": {"strides": [2, 2], "pads": [0, 1, 2, 0]},
    "dilations": {"strides": [2, 3], "dilations": [3, 2]},
    "stride 1": {"pads": [2, 0, 1, 1]},
    "phases that no tap reaches": {"strides": [5, 4], "output_padding": [4, 3]},
    "output shape": {"strides": [2, 2], "output_shape": [13, 16]},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(1, 3, 5), (1, 20, 18), (3, 6, 9), (2, 34, 38)])
def test_against_onnxruntime(case, groups, inputs, outputs):
    data = build(
        [node("ConvTranspose", "x w b", "m", group=groups, **CASES[case]), node("LeakyRelu", "m", "y", alpha=0.3)],
        {"w": weights(inputs, outputs // groups, 3, 2), "b": weights(outputs)},
        shape=(1, inputs, 6, 8),
    )
    plan = check_engine(data, (1, inputs, 6, 8), "conv_transpose")
    assert plan.total_macs > 0


def test_a_changed_pixel_reaches_only_its_own_window():
    data = build([node("ConvTranspose", "x w", "y", strides=[2, 2])], {"w": weights(4, 3, 2, 2)}, shape=(1, 4, 16, 16))
    session = Session(Plan.compile(load_model(data)), exact=True)
    x = weights(1, 4, 16, 16)
    session.push_tensor(x)
    x[0, 0, 5, 6] += 1
    assert session.push_tensor(x).compute_fraction <= 16 / 256


def test_supports():
    graph = imported(build([node("ConvTranspose", "x w", "y")], {"w": weights(4, 3, 2, 2)}), (1, 4, 10, 12))
    assert supports(graph, graph.nodes[0]) is None
    double = {name: value.astype(np.float64) for name, value in graph.constants.items()}
    assert supports(replace(graph, constants=double), graph.nodes[0]) == "weights are float64, not float32"
    assert supports(replace(graph, constants={}), graph.nodes[0]) == "weights are computed, not constant"
