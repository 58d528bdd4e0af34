"""Times of two models on one clip."""

from __future__ import annotations

import numpy as np

from cache.onnx_import import load_model
from service.compression.timing import opened_as, time_both
from service.families import create
from service.model_spec import ModelSpec
from service.opened import OpenedModel
from tests.service.compression.small_models import SIZE, frames, maps


def test_both_are_timed_on_the_same_frames():
    spec = ModelSpec()
    opened = OpenedModel(load_model(maps()), spec, create(spec), SIZE, None)
    shares: list[float] = []
    found = time_both(opened, opened_as(opened, maps()), frames(4), shares.append)
    assert found.frames == 3
    assert found.work_before == found.work_after, "one model, the same frames"
    assert 0 < found.work_before < 1
    times = [value for name, value in found.as_json().items() if name.endswith("_ms")]
    assert len(times) == 4
    assert np.isfinite(times).all()
    assert min(times) > 0
    assert shares == [0.0, 0.25, 0.5, 0.75]
    assert time_both(opened, opened_as(opened, maps()), frames(1)) is None, "no frame after the first"
