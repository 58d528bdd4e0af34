"""The public detectors beside the checkout with maps kept as float16: exact is a full recompute, the loop is closed."""

from __future__ import annotations

import numpy as np
import pytest

from cache.policy import Policy
from cache.session import Session
from service.opened import open_model
from tests.cache.closed_loop import image_of
from tests.cache.half_loop import largest_excess
from tests.cache.test_real_models import DATA, existing, fitted

MODELS = ("nanodet_m_320", "ppocrv3_det", "ultraface_version-RFB-640", "yolox_nano", "yunet_n_320_320")
CLIP = "intel_one-by-one-person-detection.mp4"

pytestmark = pytest.mark.data


@pytest.mark.parametrize("name", MODELS)
def test_exact_is_a_full_recompute_and_thresholds_hold(name: str) -> None:
    opened = open_model(existing(DATA / "models" / f"{name}.onnx"))
    plan = opened.compile(Policy(cache_dtype="float16"))
    exact, whole, budget = Session(plan, exact=True, threads=2), Session(plan, exact=True), Session(plan)
    fractions, decisions = [], set()
    for frame in fitted(opened, CLIP):
        result = exact.push(frame)
        whole.reset()
        for output, value in whole.push(frame).outputs.items():
            assert np.isfinite(value).all()
            assert result.outputs[output].tobytes() == value.tobytes(), output
        decisions.add(result.decision)
        fractions.append(budget.push(frame).compute_fraction)
    assert "partial" in decisions
    assert largest_excess(budget, image_of(budget)) < 1e-4
    assert np.mean(fractions[1:]) < 0.9
