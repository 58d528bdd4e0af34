"""Networks as ONNX Runtime's own quantiser writes them: both formats, both signednesses, per tensor and per channel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from cache.onnx_import import load_model
from cache.plan import Plan
from cache.session import Session
from tests.cache.onnx_models import build, node, weights
from tests.cache.quantised_models import LEVELS, images, ops, runtime

SHAPE = (1, 3, 32, 40)


class Images(CalibrationDataReader):  # type: ignore[misc]
    """A few random images."""

    def __init__(self) -> None:
        self._left = [{"x": x} for x in images(SHAPE, 4)]

    def get_next(self) -> Any:
        """The next one, None at the end."""
        return self._left.pop() if self._left else None


def network() -> bytes:
    """What detectors are made of: strides, a residual, SiLU, SPP, a depthwise convolution, an upsampled concat."""

    def conv(x: str, y: str, outputs: int, inputs: int, size: int, **attrs: Any) -> Any:
        constants[f"weight_{y}"] = weights(outputs, inputs, size, size, seed=len(constants)) / np.float32(
            np.sqrt(inputs * size**2)
        )
        constants[f"bias_{y}"] = weights(outputs, seed=len(constants)) / np.float32(4)
        return node("Conv", f"{x} weight_{y} bias_{y}", y, name=y, pads=[size // 2] * 4, **attrs)

    constants: dict[str, np.ndarray] = {"scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        conv("x", "a", 16, 3, 3, strides=[2, 2]), node("Relu", "a", "ar", name="ar"),
        conv("ar", "b", 16, 16, 3), node("Sigmoid", "b", "bg", name="bg"), node("Mul", "b bg", "bs", name="bs"),
        node("Add", "ar bs", "c", name="c"),
        conv("c", "d", 24, 16, 3, strides=[2, 2]), node("Relu", "d", "dr", name="dr"),
        node("MaxPool", "dr", "p", name="p", kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        node("Concat", "dr p", "e", name="e", axis=1),
        conv("e", "f", 48, 1, 3, group=48), conv("f", "g", 16, 48, 1),
        node("Resize", "g - scales", "u", name="u", mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
        node("Concat", "u c", "h", name="h", axis=1), conv("h", "y", 7, 32, 1),
    ]  # fmt: skip
    return build(nodes, constants, shape=SHAPE)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("style", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_quantised_networks_are_cached_whole(
    tmp_path: Path, style: QuantFormat, kind: QuantType, per_channel: bool
) -> None:
    (tmp_path / "float.onnx").write_bytes(network())
    logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
    try:
        quantize_static(
            tmp_path / "float.onnx", tmp_path / "bytes.onnx", Images(), quant_format=style, per_channel=per_channel,
            activation_type=kind, weight_type=QuantType.QInt8, reduce_range=True,
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    data = (tmp_path / "bytes.onnx").read_bytes()
    plan = Plan.compile(load_model(data), SHAPE)
    assert plan.partition.tails == (), plan.partition.reasons
    found = ops(plan)
    assert found.count("q_conv") == 6
    assert not {"conv", "add", "mul", "activate", "max_pool", "resize"} & set(found)
    exact = Session(plan, exact=True)
    for x in images(SHAPE):
        y, whole = exact.push_tensor(x).outputs["y"], Session(plan, exact=True).push_tensor(x).outputs["y"]
        assert y.tobytes() == whole.tobytes()
        np.testing.assert_array_equal(y, runtime(data, x, LEVELS.ORT_ENABLE_ALL)[0])
