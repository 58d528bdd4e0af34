"""Every case of the onnx package's own backend suite in the engine's field: compared, or listed with its reason."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from tests.cache.backend_suite import GROUPS, HOWS, PAGE, Case, cases, first_gap, outcomes, render, run

FEWEST_CACHED = {"convolution": 29, "pooling": 32, "resize": 19, "activation": 31, "channels and sums": 4}


@pytest.mark.parametrize("group", GROUPS)
def test_every_case_gives_the_answer_of_the_suite_or_of_onnxruntime(group):
    found = [item for item in outcomes() if item.group == group]
    assert {item.name for item in found} == {case.name for case in cases() if case.group == group}
    assert [(item.name, item.how, item.wrong) for item in found if item.wrong] == []
    assert all(item.how in HOWS and (item.how == "cached" or item.reason) for item in found)
    assert Counter(item.how for item in found)["cached"] >= FEWEST_CACHED[group]


def test_nothing_of_the_field_is_left_out():
    """By op and by name: each op of a group that the suite has at all is met, and its expanded forms too."""
    from onnx.backend.test.loader import load_model_tests

    taken = {case.name for case in cases()}
    ours = {op for ops in GROUPS.values() for op in ops}
    left = [case.name for case in load_model_tests(kind="node") if case.name not in taken]
    words = ("conv_", "basic_conv", "convtranspose", "convinteger", "maxpool", "averagepool", "lppool", "global",
             "resize", "upsample", "relu", "leakyrelu", "prelu", "clip", "sigmoid", "hardsigmoid", "hardswish", "elu",
             "selu", "tanh", "softplus", "softsign", "mish", "gelu", "swish", "celu", "thresholdedrelu")  # fmt: skip
    assert [name for name in left if name.startswith(tuple(f"test_{word}" for word in words))] == []
    met = {node.op_type for case in cases() for node in case.model.graph.node}
    assert ours - met == {"GlobalLpPool", "MaxRoiPool"}, "the suite has no cases of these"


def test_the_page_says_what_was_found():
    page = PAGE.read_text(encoding="utf-8")
    versions = f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}:"
    if versions not in page:
        pytest.skip(f"docs/onnx-support.md was written with other versions than {versions}")
    assert page == render(outcomes()), "out of date: run python -m tests.cache.backend_suite"


def relu_case(expected: np.ndarray) -> Case:
    x = np.array([[[[-1, 2]]]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 1, 1, 2))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 1, 1, 2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Case("test_made_here", "activation", model, [([x], [expected])], 1e-3, 1e-7)


def test_a_wrong_answer_would_be_seen(monkeypatch):
    right = np.array([[[[0, 2]]]], np.float32)
    assert run(relu_case(right)).wrong == ""
    assert run(relu_case(right)).how == "cached"
    import tests.cache.backend_suite as suite

    original = suite.answer_case

    def spoiled(case, inputs):
        values, outcome = original(case, inputs)
        return [value + np.float32(0.01) for value in values], outcome

    monkeypatch.setattr(suite, "answer_case", spoiled)
    assert run(relu_case(right)).wrong == "ONNX Runtime says: output 0 differs by up to 0.01"


def test_first_gap():
    one = np.array([1, np.nan, np.inf], np.float32)
    assert first_gap([one], [one.copy()], 1e-5, 1e-6) == ""
    assert first_gap([one[None]], [one], 1e-5, 1e-6) == ""
    assert first_gap([one], [one[None]], 1e-5, 1e-6) == "output 0 is float32[3], expected float32[1, 3]"
    assert first_gap([one], [one.astype(np.float64)], 1e-5, 1e-6) == "output 0 is float32[3], expected float64[3]"
    assert "differs by up to" in first_gap([np.zeros(3, np.float32)], [one], 1e-5, 1e-6)
