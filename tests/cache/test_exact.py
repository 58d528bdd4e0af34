"""Exact mode is bit for bit a full recompute, whatever the network and whatever the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cache import winograd
from cache.onnx_import import load_model
from cache.plan import Plan
from cache.policy import Policy
from cache.session import FrameResult, Session
from tests.cache.failures import failing_after
from tests.cache.random_models import models

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def runtime(model: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options)


def compile_plan(model: bytes, everywhere: bool) -> Plan:
    """The model's plan; with Winograd's method wherever it is possible, also where it does not pay."""
    with pytest.MonkeyPatch.context() as patch:
        if everywhere:
            patch.setattr(winograd, "NARROWEST", 1)
        return Plan.compile(load_model(model))


def largest_error(plan: Plan, model: bytes, x: np.ndarray) -> float:
    """The largest difference from ONNX Runtime, in units of its largest magnitude, but at least of 1."""
    found = Session(plan).push_tensor(x).outputs
    errors = []
    for name, value in zip(found, runtime(model).run(list(found), {"image": x}), strict=True):
        assert found[name].shape == value.shape
        assert np.isfinite(found[name]).all()
        errors.append(float(np.abs(found[name] - value).max()) / max(1.0, float(np.abs(value).max())))
    return max(errors)


@given(models(), st.integers(0, 2**31), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
def test_dense_outputs_agree_with_onnxruntime(made, seed, everywhere):
    model, (channels, height, width) = made
    x = np.random.default_rng(seed).standard_normal((1, channels, height, width)).astype(np.float32)
    strict = Plan.compile(load_model(model), policy=Policy(precision="strict"))
    assert largest_error(strict, model, x) <= 3e-5
    # Winograd's method rounds more: 1e-4 of a layer's output scale is what it may cost.
    assert largest_error(compile_plan(model, everywhere), model, x) <= 1e-4


class StreamMachine(RuleBasedStateMachine):
    """One exact session through everything that happens to a stream; a fresh session recomputes each frame."""

    @initialize(made=models(max_layers=8), seed=st.integers(0, 2**31), everywhere=st.booleans())
    def open(self, made: tuple[bytes, tuple[int, int, int]], seed: int, everywhere: bool) -> None:
        model, (channels, height, width) = made
        self.plan = compile_plan(model, everywhere)
        self.session = Session(self.plan, exact=True)
        self.dense = Session(self.plan, exact=True)
        self.rng = np.random.default_rng(seed)
        self.frame = self.rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
        self.result: FrameResult | None = None

    def push(self) -> FrameResult:
        self.result = self.session.push(self.frame)
        self.dense.reset()
        full = self.dense.push(self.frame)
        assert full.decision == "keyframe"
        assert self.result.outputs.keys() == full.outputs.keys()
        for name, value in full.outputs.items():
            assert self.result.outputs[name].tobytes() == value.tobytes(), name
        return self.result

    @rule()
    def same_frame(self) -> None:
        seen = self.result is not None and self.session._valid
        result = self.push()
        if seen:
            assert result.decision == "reuse"
            assert result.compute_fraction == 0

    @rule(y=st.floats(0, 1), x=st.floats(0, 1), height=st.integers(1, 9), width=st.integers(1, 9))
    def something_moves(self, y: float, x: float, height: int, width: int) -> None:
        top, left = int(y * self.frame.shape[0]), int(x * self.frame.shape[1])
        part = self.frame[top : top + height, left : left + width]
        part[:] = self.rng.integers(0, 256, part.shape, dtype=np.uint8)
        self.push()

    @rule(y=st.floats(0, 1, exclude_max=True), x=st.floats(0, 1, exclude_max=True))
    def one_pixel_changes_by_one(self, y: float, x: float) -> None:
        self.frame[int(y * self.frame.shape[0]), int(x * self.frame.shape[1])] ^= 1
        self.push()

    @rule()
    def scene_cut(self) -> None:
        self.frame = self.rng.integers(0, 256, self.frame.shape, dtype=np.uint8)
        self.push()

    @rule()
    def brightness_ramp(self) -> None:
        self.frame = np.clip(self.frame.astype(np.int16) + 1, 0, 255).astype(np.uint8)
        self.push()

    @rule()
    def reset(self) -> None:
        self.session.reset()
        assert self.push().decision == "keyframe"

    @rule()
    def wrong_size(self) -> None:
        wrong = np.zeros((self.frame.shape[0] + 1, *self.frame.shape[1:]), np.uint8)
        with pytest.raises(ValueError, match="expected a frame uint8"):
            self.session.push(wrong)

    @precondition(lambda self: self.plan.steps)
    @rule(where=st.floats(0, 1, exclude_max=True))
    def a_step_fails(self, where: float) -> None:
        steps_done = int(where * len(self.plan.steps))
        self.frame = self.rng.integers(0, 256, self.frame.shape, dtype=np.uint8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cache.session.run_frame", failing_after(steps_done))
            try:
                self.session.push(self.frame)
            except MemoryError:
                assert not self.session._valid
        self.push()

    @invariant()
    def outputs_are_read_only(self) -> None:
        if self.result is not None:
            assert not any(value.flags.writeable for value in self.result.outputs.values())


TestStream = StreamMachine.TestCase
TestStream.settings = settings(max_examples=120, stateful_step_count=12, deadline=None, suppress_health_check=SLOW)
