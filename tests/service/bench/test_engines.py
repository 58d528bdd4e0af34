"""The engines agree with each other on a small network, and say why they cannot run."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from onnx import TensorProto, helper

from cache.onnx_import import load_model
from service.bench import engines
from service.bench.dense import example
from service.bench.engines import EngineError, OnnxRuntime, Own, compile_own, open_other, open_others
from service.evaluate import relative_error
from service.families import create
from service.model_spec import ModelSpec
from service.opened import OpenedModel


@pytest.mark.parametrize("name", engines.OTHERS)
def test_every_engine_gives_our_outputs_from_pixels_and_from_a_tensor(opened, name):
    plan = opened.compile()
    own, other = Own(plan, 1), open_other(name, opened, plan, 1, "float32")
    for seed in range(2):  # what is bound once must follow the frame
        frame = np.random.default_rng(seed).integers(0, 256, (plan.height, plan.width, 3), np.uint8)
        ours = {key: np.array(values) for key, values in own.frame(frame).items()}
        assert relative_error(ours, other.frame(frame)) < 1e-4
        assert relative_error(ours, other.tensor(plan.tensor(frame))) < 1e-4
        assert relative_error(ours, own.tensor(plan.tensor(frame))) < 1e-4
    assert other.ingest


def test_our_engine_computes_every_frame_in_full(opened):
    own = Own(opened.compile(), 1)
    frame = example(opened)
    own.frame(frame)
    own.session.reset()
    assert own.session.push(frame).decision == "keyframe"
    first = {key: np.array(values) for key, values in own.frame(frame).items()}
    assert relative_error(first, own.frame(frame)) == 0


def test_outputs_whose_shape_is_not_known_are_taken_as_they_come():
    """NonZero's output is as long as its input has nonzero values: nothing can be bound beforehand."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])
    end = helper.make_tensor_value_info("y", TensorProto.INT64, None)
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "counting", [image], [end])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    spec = ModelSpec.model_validate({"colour": "GRAY", "mean": 0, "std": 1})
    model = load_model(data)
    opened = OpenedModel(model, spec, create(spec), (2, 2), None)
    engine = OnnxRuntime(data, opened.compile(), 1, "float32")
    frame = np.array([[[0], [3]], [[5], [0]]], np.uint8)
    assert engine.frame(frame)["y"].tolist() == [[0, 0], [0, 0], [0, 1], [1, 0]]
    assert engine.frame(np.zeros_like(frame))["y"].shape == (4, 0)


def test_an_engine_that_cannot_run_a_model_is_left_out_with_its_reason(opened, monkeypatch):
    def refuse(name, *rest):
        if name == "openvino":
            raise EngineError("no such op")
        return open_other(name, *rest)

    monkeypatch.setattr(engines, "open_other", refuse)
    found, reasons = open_others(engines.OTHERS, opened, opened.compile(), 1, "float32")
    assert list(found) == ["onnxruntime"]
    assert reasons == {"openvino": "no such op"}


def test_onnx_runtime_says_why_it_cannot_load_a_model(opened):
    with pytest.raises(EngineError, match="ONNX Runtime cannot run this model"):
        OnnxRuntime(b"no model", opened.compile(), 1, "float32")


@pytest.mark.skipif(platform.machine() in ("aarch64", "arm64"), reason="it has bfloat16 products there")
def test_onnx_runtime_has_no_bfloat16_on_amd64(opened):
    with pytest.raises(EngineError, match="float32 alone"):
        open_other("onnxruntime", opened, opened.compile(), 1, "bfloat16")


def test_our_engine_says_which_precision_it_has(opened):
    with pytest.raises(EngineError, match="float32, not in bfloat16"):
        compile_own(opened, "bfloat16")


def test_a_name_that_is_no_engine(opened):
    with pytest.raises(ValueError, match="expected one of onnxruntime, openvino, got 'other'"):
        open_other("other", opened, opened.compile(), 1, "float32")
