"""Opening a model file for the service: only what takes one image, and a clear reason for the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from cache.onnx_import import ModelError
from cache.policy import Policy
from cache.session import Session
from service.families import FamilyError
from service.opened import open_model
from service.registry import ModelFailed, load
from service.settings import ModelSource


def write(path: Path, *inputs: tuple[str, int, tuple[int | str, ...]]) -> Path:
    """A model that sums its inputs, as float32."""
    casts = [helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name, _, _ in inputs]
    total = helper.make_node("Sum", [f"{name}_f" for name, _, _ in inputs], ["y"])
    graph = helper.make_graph(
        [*casts, total],
        "sum",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_value_info("y", helper.make_tensor_type_proto(TensorProto.FLOAT, inputs[0][2]))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(proto.SerializeToString())
    return path


FLOAT = TensorProto.FLOAT
IMAGE = (1, 3, 8, 16)
NO_IMAGE = {
    "two inputs": ((("a", FLOAT, IMAGE), ("b", FLOAT, IMAGE)), r"expected a model with one input \(an image\), got 2"),
    "three dimensions": ((("x", FLOAT, (3, 8, 16)),), r"expected an input of shape \(3, 8, 16\), got \(1, 3,"),
    "bytes": ((("x", TensorProto.UINT8, IMAGE),), "expected a float32 image input, got uint8 for 'x'"),
    "double precision": ((("x", TensorProto.DOUBLE, IMAGE),), "expected a float32 image input, got float64 for 'x'"),
}


@pytest.mark.parametrize("kind", NO_IMAGE)
def test_a_model_without_an_image_input_says_so(tmp_path: Path, kind: str) -> None:
    inputs, reason = NO_IMAGE[kind]
    path = write(tmp_path / "x.onnx", *inputs)
    with pytest.raises(ModelError, match=reason):
        open_model(path)
    with pytest.raises(ModelFailed, match=f"^name: {reason}"):
        load("name", ModelSource(path=path))


def test_an_image_model_is_opened_at_its_own_size_and_at_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx", ("x", FLOAT, IMAGE))
    opened = open_model(path)
    assert (opened.size, opened.model.name) == ((16, 8), "x")
    frame = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
    plan = opened.compile()
    (y,) = Session(plan).push(frame).outputs.values()
    np.testing.assert_array_equal(y[0, 1], plan.table[frame[:, :, 1], 1])
    with pytest.raises(FamilyError, match="this file takes only"):
        open_model(path, (32, 8))


def test_the_specification_says_what_a_network_tolerates(tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx", ("x", FLOAT, IMAGE))
    assert open_model(path).compile().policy == Policy()
    path.with_suffix(".toml").write_text("tolerance = 3.0\n")
    opened = open_model(path)
    assert opened.compile().policy == Policy().scaled(3)
    tight = Policy(tile=16)
    assert opened.compile(tight).policy == tight  # a policy that is given is taken as it is


def test_streams_of_the_service_run_with_the_models_tolerance(tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx", ("x", FLOAT, IMAGE))
    path.with_suffix(".toml").write_text('tolerance = 2.0\nfamily = "raw"\n')
    session = load("x", ModelSource(path=path)).open_session()
    assert isinstance(session, Session)
    assert session.plan.policy == Policy().scaled(2)


def test_a_dynamic_model_is_opened_at_the_size_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx", ("x", FLOAT, (1, 3, "h", "w")))
    opened = open_model(path, (64, 32))
    assert opened.compile().input_shape == (1, 3, 32, 64)
