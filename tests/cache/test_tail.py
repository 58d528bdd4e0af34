"""Parts of a model in ONNX Runtime: what goes in, what comes out, what is said when it fails."""

from __future__ import annotations

import numpy as np
import pytest

from cache.tail import TailError, TailRunner, runtime_session
from tests.cache.onnx_models import build, node, weights


def test_outputs_by_name_in_the_order_asked_for():
    data = build([node("Relu", "x", "r"), node("Neg", "x", "n")], shape=(1, 2, 3, 3), outputs=("r", "n"))
    runner = TailRunner(data, ["x"], ["n", "r"])
    x = weights(1, 2, 3, 3)
    found = runner.run({"x": x, "of another tail": x})
    assert tuple(found) == ("n", "r")
    np.testing.assert_array_equal(found["n"], -x)
    np.testing.assert_array_equal(found["r"], np.maximum(x, 0))


def test_types():
    data = build([node("Cast", "x", "y", to=7)], outputs={"y": 7}, shape=(1, 2))
    assert TailRunner(data, ["x"], ["y"]).types == {"x": "tensor(float)", "y": "tensor(int64)"}


def test_what_cannot_be_loaded_says_why():
    with pytest.raises(TailError, match="ONNX Runtime cannot run this model: "):
        runtime_session(b"no model")


def test_what_fails_while_running_says_where():
    runner = TailRunner(build([node("Relu", "x", "y")], shape=(1, 2, 3, 3)), ["x"], ["y"])
    with pytest.raises(TailError, match="ONNX Runtime failed on y: "):
        runner.run({"x": np.zeros((1, 2, 3, 4), np.float32)})
    with pytest.raises(TailError, match="ONNX Runtime failed on y"):
        runner.run({"x": np.zeros((1, 2, 3, 3), np.int64)})
    assert runner.run({"x": -(weights(1, 2, 3, 3) ** 2)})["y"].max() == 0
