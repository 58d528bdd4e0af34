"""Variants on one frame: what is timed apart, and what is the same."""

from __future__ import annotations

import numpy as np
import pytest

from cache.session import Session
from service import codec
from service.bench.engines import Own
from service.bench.variants import Series, Step, Variant, full, same_bits, stream


def step(decode_ns, infer_ns, boxes_ns, fraction):
    return Step(decode_ns, infer_ns, boxes_ns, fraction, {})


def test_a_series_adds_up_by_hand():
    series = Series()
    series.add(step(1_000_000, 5_000_000, 500_000, 1.0))
    series.add(step(2_000_000, 1_000_000, 250_000, 0.25))
    assert series.frame_ms == [5.5, 1.25]
    assert series.jpeg_ms == [6.5, 3.25]
    assert series.fraction == [1.0, 0.25]


def test_a_stream_recomputes_what_changed_and_a_full_run_everything(opened, clip):
    plan = opened.compile()
    streaming = Variant("stream", stream(Session(plan, exact=True)), opened)
    whole = Variant("full", full(Own(plan, 1)), opened)
    for number, frame in enumerate(clip):
        jpeg = codec.encode_jpeg(frame)
        one, other = streaming.run(jpeg, frame), whole.run(jpeg, frame)
        assert same_bits(one.outputs, other.outputs)
        assert other.fraction == 1
        assert one.fraction == {0: 1, 2: 0}.get(number, pytest.approx(one.fraction))
        assert min(one.decode_ns, one.infer_ns, one.boxes_ns) > 0


def test_outputs_outlive_the_next_frame(opened, clip):
    variant = Variant("full", full(Own(opened.compile(), 1)), opened)
    first = variant.run(codec.encode_jpeg(clip[0]), clip[0]).outputs
    kept = {name: np.array(values) for name, values in first.items()}
    later = variant.outputs(clip[3])
    assert same_bits(first, kept)
    assert not same_bits(first, later)


def test_bits_are_compared_and_not_values():
    zero, negative = {"a": np.zeros(2, np.float32)}, {"a": -np.zeros(2, np.float32)}
    assert same_bits(zero, {"a": np.zeros(2, np.float32)})
    assert not same_bits(zero, negative)
    assert not same_bits(zero, {"b": np.zeros(2, np.float32)})
    assert not same_bits(zero, {"a": np.zeros((2, 1), np.float32)})
