"""Nearest and linear resize in every coordinate mode, by sizes no whole factor apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.onnx_import import load_model
from cache.ops.resize import COORDINATES, axis, supports
from cache.plan import Plan
from cache.session import Session
from tests.cache.engine_check import check_engine, imported
from tests.cache.interpreter import onnx_run
from tests.cache.onnx_models import build, node, weights


def resized(sizes: tuple[int, int], channels: int, **attrs: str) -> bytes:
    target = np.array([1, channels, *sizes], np.int64)
    return build([node("Resize", "x - - sizes", "y", **attrs)], {"sizes": target}, shape=(1, channels, 7, 9))


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("sizes", [(14, 18), (13, 20), (5, 4), (7, 1), (21, 9)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_against_onnxruntime(coordinate, sizes, mode):
    data = resized(sizes, 21, coordinate_transformation_mode=coordinate, mode=mode)
    check_engine(data, (1, 21, 7, 9), "resize", tolerance=0 if mode == "nearest" else 1e-5)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("sizes", [(14, 18), (11, 5), (9, 7)])
def test_rounding_of_nearest(rounding, sizes):
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": rounding}
    check_engine(resized(sizes, 3, **attrs), (1, 3, 7, 9), "resize", tolerance=0)


def test_a_position_that_rounding_may_put_on_either_side_is_left_to_onnxruntime():
    """9 columns to 3: position 3 is 2.9999 or 3.0, as the scale was rounded; floor must be ONNX Runtime's."""
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    data = resized((5, 3), 3, **attrs)
    plan = Plan.compile(load_model(data))
    assert [tail.outputs for tail in plan.partition.tails] == [("y",)]
    x = weights(1, 3, 7, 9)
    np.testing.assert_array_equal(Session(plan).push_tensor(x).outputs["y"], onnx_run(data, {"x": x})[0])


def test_upsample_of_old_opsets():
    scales = np.array([1, 1, 2, 3], np.float32)
    data = build([node("Upsample", "x scales", "y", mode="nearest")], {"scales": scales}, shape=(1, 17, 5, 4), opset=9)
    check_engine(data, (1, 17, 5, 4), "resize", tolerance=0)


def test_supports():
    graph = imported(resized((14, 18), 4, mode="nearest"), (1, 4, 7, 9))
    (found,) = graph.nodes
    assert supports(graph, found) is None
    odd = replace(found, attrs={**found.attrs, "coordinate": "tf_crop_and_resize"})
    assert supports(graph, odd) == "resize coordinates 'tf_crop_and_resize' are not known"


def test_axis():
    (found,) = imported(resized((14, 18), 4, mode="linear"), (1, 4, 7, 9)).nodes
    index, weight = axis(found, 7, 14, 2.0)
    assert index[1:4].tolist() == [[0, 1], [0, 1], [1, 2]]
    assert weight[1] == pytest.approx(0.25)
    assert weight[2] == pytest.approx(0.75)
