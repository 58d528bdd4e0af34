"""OpenVINO as it is set up, and what is said where it is not there."""

from __future__ import annotations

import numpy as np
import pytest

from cache.onnx_import import extract
from service.bench import openvino_engine
from service.bench.engines import EngineError
from service.bench.ingest import ways
from service.bench.openvino_engine import OpenVino
from service.evaluate import relative_error


@pytest.fixture
def parts(opened):
    plan = opened.compile()
    return extract(opened.model, {plan.input_name: plan.input_shape}, plan.output_names), plan


def test_all_ways_from_pixels_give_the_same(parts):
    engine = OpenVino(*parts, 1, "float32")
    plan = parts[1]
    frame = np.random.default_rng(0).integers(0, 256, (plan.height, plan.width, 3), np.uint8)
    wanted = {name: np.array(values) for name, values in engine.tensor(plan.tensor(frame)).items()}
    for way in (None, *ways(plan.table).values()):
        assert relative_error(wanted, engine._through(way, frame)) < 1e-5


def test_without_the_package_it_says_how_to_get_it(parts, monkeypatch):
    monkeypatch.setattr(openvino_engine, "openvino", None)
    with pytest.raises(EngineError, match="not installed; pip install openvino"):
        OpenVino(*parts, 1, "float32")


def test_it_says_why_it_cannot_load_a_model(parts):
    with pytest.raises(EngineError, match=r"OpenVINO cannot run this model: ."):
        OpenVino(b"no model", parts[1], 1, "float32")


def test_bfloat16_only_where_the_cpu_has_it(parts, monkeypatch):
    class Poor(openvino_engine.openvino.Core):
        def get_property(self, device, name):
            assert name == "OPTIMIZATION_CAPABILITIES"
            return ["FP32"]

    monkeypatch.setattr(openvino_engine.openvino, "Core", Poor)
    with pytest.raises(EngineError, match="no bfloat16 on this CPU"):
        OpenVino(*parts, 1, "bfloat16")
